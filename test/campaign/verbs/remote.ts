// The ports of an agent whose world lies in another process: every change passes the agent's gate once it is made.

import { PassThrough, Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import type { Nft } from '../../../src/agent/firewall/nft.ts'
import type { BackupJob, BackupRequest } from '../../../src/agent/host/backup-port.ts'
import type {
  DomainEvent,
  Hypervisor,
  StartGate,
  VmRecord,
  Wait
} from '../../../src/agent/host/hypervisor.ts'
import type { DomainUse } from '../../../src/agent/host/inventory-port.ts'
import { StartGates } from '../../../src/agent/host/start-gates.ts'
import type { Extent } from '../../../src/backup/disk.ts'
import type { HostletError } from '../../../src/errors.ts'
import { untilAborted } from '../../../src/lib/deadline.ts'
import type { DiskRole } from '../../../src/protocol/backup.ts'
import { type Call, changing, type Port } from './calls.ts'
import type { Gate } from './gate.ts'

export interface Line {
  readonly gate: Gate
  /** Asks the world; rejects with what it throws. */
  call(call: Call): Promise<unknown>
}

/** Methods that a start gate stands before, where the machine is off. */
const starting = new Set(['start', 'startPaused', 'beginBackup'])
/** Transfers that a kill may cut short. */
const uploading = new Set(['uploadBase', 'storeDisk'])

export class RemoteWorld {
  readonly #line: Line
  readonly #gates = new StartGates()
  readonly #listeners = new Set<(event: DomainEvent) => void>()
  readonly #watchers = new Set<() => void>()
  readonly #jobs = new Map<number, AbortController>()

  constructor(line: Line) {
    this.#line = line
  }

  takeEvent(event: DomainEvent): void {
    for (const listener of [...this.#listeners]) listener(event)
  }

  rulesChanged(): void {
    for (const watcher of [...this.#watchers]) watcher()
  }

  jobLost(job: number, error: HostletError): void {
    this.#jobs.get(job)?.abort(error)
  }

  readonly nft: Nft = {
    apply: async (commands, wait) => void (await this.#ask('nft', 'apply', [commands], wait)),
    check: async (commands, wait) => (await this.#ask('nft', 'check', [commands], wait)) === true,
    read: async (table, wait) =>
      (await this.#ask('nft', 'read', [table], wait)) as Awaited<ReturnType<Nft['read']>>,
    watch: (_table, onChange) => {
      this.#watchers.add(onChange)
      return { [Symbol.asyncDispose]: async () => void this.#watchers.delete(onChange) }
    }
  }

  get hypervisor(): Hypervisor {
    const local: Partial<Hypervisor> = {
      open: () => undefined,
      close: async () => undefined,
      status: () => ({ state: 'connected' }),
      onStatus: () => ({ [Symbol.dispose]: () => undefined }),
      onEvent: (listener) => {
        this.#listeners.add(listener)
        return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
      },
      addStartGate: (gate: StartGate) => this.#gates.add(gate),
      // Its stream is the agent's own, and ends with it.
      openConsole: async (name, _options, wait) => {
        await this.#ask('hypervisor', 'findVm', [name], wait)
        return { stream: new PassThrough(), released: Promise.resolve() }
      },
      beginBackup: (vm, request, wait) => this.#beginBackup(vm, request, wait),
      domainUses: async (wait, only) =>
        (await this.#ask('hypervisor', 'domainUses', [only], wait)) as readonly DomainUse[],
      readVolume: async (name, wait) =>
        Readable.from([await this.#ask('hypervisor', 'readVolume', [name], wait)]),
      readRange: async (name, range, wait) =>
        Buffer.from((await this.#ask('hypervisor', 'readRange', [name, range], wait)) as Uint8Array)
    }
    return new Proxy(local, {
      get: (on, key) =>
        Reflect.get(on, key) ??
        ((...args: unknown[]) => this.#method(String(key), args.slice(0, -1), args.at(-1) as Wait))
    }) as Hypervisor
  }

  async #method(method: string, args: unknown[], wait: Wait): Promise<unknown> {
    if (starting.has(method)) await this.#passGates(String(args[0]), wait)
    if (uploading.has(method)) return await this.#upload(method, args, wait)
    return await this.#ask('hypervisor', method, args, wait)
  }

  /** As libvirt's driver does, in the agent: nothing of it is left when the agent is killed. */
  async #passGates(name: string, wait: Wait): Promise<void> {
    const record = (await this.#ask('hypervisor', 'findVm', [name], wait)) as VmRecord | undefined
    if (record?.state === 'stopped' || record?.state === 'crashed') await this.#gates.pass(record, wait)
  }

  async #upload(method: string, [volume, content]: unknown[], wait: Wait): Promise<unknown> {
    const bytes = await buffer(content as Readable)
    const { name } = volume as { name: string }
    const exists = await this.#ask('hypervisor', 'findVolume', [name], wait)
    // The first half of it is there before the rest: killed now, that is what stays.
    if (exists === undefined && this.#line.gate.willDieNext()) {
      const half = bytes.subarray(0, bytes.length / 2)
      await this.#ask('hypervisor', 'spoilVolume', [name, half], wait)
    }
    return await this.#ask('hypervisor', method, [volume, bytes], wait)
  }

  async #beginBackup(vm: string, request: BackupRequest, wait: Wait): Promise<BackupJob> {
    await this.#passGates(vm, wait)
    const { job, disks, ...about } = (await this.#ask('hypervisor', 'beginBackup', [vm, request], wait)) as {
      job: number
      disks: { role: DiskRole; sizeBytes: number }[]
    } & Omit<BackupJob, 'disks' | 'signal' | 'end'>
    const over = new AbortController()
    this.#jobs.set(job, over)
    return {
      ...about,
      signal: over.signal,
      disks: disks.map(({ role, sizeBytes }) => ({
        role,
        sizeBytes,
        open: async (wait) => await this.#openDisk(job, role, wait)
      })),
      end: async ({ keepCheckpoint, signal }) =>
        void (await this.#ask('hypervisor', 'endBackup', [job, keepCheckpoint], { signal }))
    }
  }

  async #openDisk(job: number, role: DiskRole, wait: Wait) {
    const { source, sizeBytes, extents } = (await this.#ask('hypervisor', 'openDisk', [job, role], wait)) as {
      source: number
      sizeBytes: number
      extents: Extent[]
    }
    return {
      sizeBytes,
      readsInFlightMax: 8,
      async *extents() {
        yield* extents
      },
      read: async (offset: number, target: Uint8Array, wait: Wait) => {
        const bytes = await this.#ask('hypervisor', 'readDisk', [source, offset, target.length], wait)
        target.set(bytes as Uint8Array)
      },
      close: async () => undefined
    }
  }

  async #ask(port: Port, method: string, args: unknown[], { signal }: Wait): Promise<unknown> {
    const { gate } = this.#line
    await gate.living()
    signal.throwIfAborted()
    const value = await untilAborted(this.#line.call({ port, method, args }), signal)
    if (changing.has(method)) await gate.passed(`${method} ${typeof args[0] === 'string' ? args[0] : ''}`)
    await gate.living()
    return value
  }
}
