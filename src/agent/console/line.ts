// The serial line of one VM while anybody is on it: one stream of libvirt's, shown to all of its sessions and written by one.

import type { Duplex } from 'node:stream'
import type { OpenConsole } from '../host/console-port.ts'
import type { ConsoleSession } from './session.ts'

export class ConsoleLine {
  readonly vm: string
  readonly uuid: string
  readonly sessions = new Set<ConsoleSession>()
  /** Resolves once the port is free for another. */
  readonly released: Promise<void>
  readonly #stream: Duplex
  #isPaused = true
  #isEnded = false

  /** `onEnd` is called once, when the stream has ended by itself; with the error where there is one. */
  constructor(
    { vm, uuid }: { readonly vm: string; readonly uuid: string },
    { stream, released }: OpenConsole,
    onEnd: (error: Error | undefined) => void
  ) {
    this.vm = vm
    this.uuid = uuid
    this.#stream = stream
    this.released = released
    let failure: Error | undefined
    stream.on('error', (error) => {
      failure = error
    })
    stream.once('close', () => {
      this.#isEnded = true
      onEnd(failure)
    })
    stream.pause()
    stream.on('data', (chunk: Buffer) => this.#show(chunk))
  }

  /** The stream is gone, whoever ended it. */
  get isEnded(): boolean {
    return this.#isEnded
  }

  get writer(): ConsoleSession | undefined {
    return [...this.sessions].find(({ grant }) => grant.mode === 'write')
  }

  type(data: Buffer, taken: () => void): void {
    if (!this.#stream.writable) return
    this.#stream.write(data, (error) => {
      if (!error) taken()
    })
  }

  /** Reads on if whoever sets the pace takes more: nothing is read while nobody is attached. */
  adjust(): void {
    const pace = this.#pace
    const wanted = pace !== undefined && !pace.isFull
    if (wanted === !this.#isPaused) return
    this.#isPaused = !wanted
    if (wanted) this.#stream.resume()
    else this.#stream.pause()
  }

  /** Lets go of the port. */
  close(): void {
    this.#stream.destroy()
  }

  /** The one that writes; among those that watch the one that came first. */
  get #pace(): ConsoleSession | undefined {
    const attached = [...this.sessions].filter(({ isAttached }) => isAttached)
    return attached.find(({ grant }) => grant.mode === 'write') ?? attached[0]
  }

  #show(chunk: Buffer): void {
    const pace = this.#pace
    for (const session of [...this.sessions]) if (session.isAttached) session.show(chunk, session === pace)
    this.adjust()
  }
}
