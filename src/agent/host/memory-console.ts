// Serial ports of the hypervisor in memory: what a test's guest sends, and what it was sent.

import { Duplex } from 'node:stream'
import { HostletError } from '../../errors.ts'
import type { OpenConsole } from './console-port.ts'
import type { Hypervisor } from './hypervisor.ts'

export class MemoryConsoles {
  /** What guests were sent, by VM. */
  readonly typed = new Map<string, string>()
  /** Answers what is typed; undefined for nothing. As a terminal that echoes, unless a test says otherwise. */
  answer: (vm: string, typed: string) => string | undefined = (_vm, typed) => typed
  readonly #open = new Map<string, Duplex>()

  constructor(machines: Pick<Hypervisor, 'onEvent' | 'onStatus'>) {
    machines.onEvent(({ kind, name }) => {
      if (kind === 'stopped') this.#open.get(name)?.push(null)
    })
    machines.onStatus(({ state }) => {
      if (state === 'away') this.#lose()
    })
  }

  /** Throws E_CONFLICT as libvirt would. */
  open(vm: string, isOn: boolean, force: boolean): OpenConsole {
    if (!isOn) throw new HostletError('E_CONFLICT', `VM ${vm} is off: there is nothing to see on its console`)
    const before = this.#open.get(vm)
    if (before !== undefined && !force)
      throw new HostletError('E_CONFLICT', `the console of VM ${vm} is open on the host itself`)
    before?.destroy(new HostletError('E_LIBVIRT', 'stream had I/O failure'))
    const port = this.#port(vm)
    this.#open.set(vm, port)
    const { promise: released, resolve } = Promise.withResolvers<void>()
    port.once('close', () => {
      if (this.#open.get(vm) === port) this.#open.delete(vm)
      resolve()
    })
    return { stream: port, released }
  }

  isOpen(vm: string): boolean {
    return this.#open.has(vm)
  }

  /** The guest sends. False when nobody reads for now, or at all. */
  say(vm: string, bytes: string | Buffer): boolean {
    return this.#open.get(vm)?.push(Buffer.from(bytes)) ?? false
  }

  /** libvirt ends a stream while its machine runs on, as when somebody takes the port over. */
  end(vm: string): void {
    this.#open.get(vm)?.push(null)
  }

  #lose(): void {
    for (const port of this.#open.values())
      port.destroy(new HostletError('E_UNAVAILABLE', 'libvirt went away'))
  }

  #port(vm: string): Duplex {
    const port: Duplex = new Duplex({
      allowHalfOpen: false,
      read: () => undefined,
      write: (chunk: Buffer, _encoding, callback) => {
        const text = chunk.toString('latin1')
        this.typed.set(vm, (this.typed.get(vm) ?? '') + text)
        const answer = this.answer(vm, text)
        if (answer !== undefined) port.push(Buffer.from(answer, 'latin1'))
        callback()
      }
    })
    return port
  }
}
