// What an agent acts upon and does not take along when it is killed: the hypervisor and the packet filter, in memory, of one host.

import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { MemoryNft } from '../../../src/agent/firewall/memory-nft.ts'
import type { NftCommand } from '../../../src/agent/firewall/nft-json.ts'
import type { BackupJob, BackupRequest } from '../../../src/agent/host/backup-port.ts'
import type { DomainEvent } from '../../../src/agent/host/hypervisor.ts'
import type { VolumeSurvey } from '../../../src/agent/host/inventory-port.ts'
import { MemoryHypervisor } from '../../../src/agent/host/memory-hypervisor.ts'
import type { Tampering } from '../../../src/agent/host/memory-inventory.ts'
import type { DiskSource, Extent } from '../../../src/backup/disk.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import type { DiskRole } from '../../../src/protocol/backup.ts'
import { type Call, changing } from './calls.ts'

type Volume = { name: string; sizeBytes: number; format: 'raw' }
type Method = (...args: unknown[]) => Promise<unknown>

export interface WorldListener {
  onEvent(event: DomainEvent): void
  onRules(): void
  onJobLost(job: number, error: unknown): void
}

export class World {
  readonly hypervisor: MemoryHypervisor
  readonly nft = new MemoryNft()
  /** Of its running agent; none while that is dead. */
  listener: WorldListener | undefined
  /** What a call to it has to wait for. */
  hold: ((call: Call) => Promise<void>) | undefined
  /** What became of machines, in the order of its happening: `started web-1`. */
  readonly happened: string[] = []
  readonly #done: Call[] = []
  readonly #jobs = new Map<number, BackupJob>()
  readonly #sources = new Map<number, DiskSource>()
  readonly #wait = { signal: new AbortController().signal }
  #last = 0

  constructor(directory: string) {
    this.hypervisor = new MemoryHypervisor({ clock: systemClock, poolPath: `${directory}/pool` })
    this.hypervisor.open()
    this.hypervisor.onEvent((event) => {
      this.happened.push(`${event.kind} ${event.name}`)
      this.listener?.onEvent(event)
    })
    this.nft.watch('hostlet', () => this.listener?.onRules())
  }

  /** Another one to which the same was done, with its files in another directory. */
  async copy(from: string, to: string): Promise<World> {
    const copy = new World(to)
    for (const call of this.#done) await copy.call(moved(call, from, to) as Call)
    copy.happened.length = 0
    return copy
  }

  async call(call: Call): Promise<unknown> {
    await this.hold?.(call)
    const value = await this.#carryOut(call)
    if (changing.has(call.method)) this.#done.push(call)
    return value
  }

  #carryOut({ port, method, args }: Call): Promise<unknown> {
    const own = this.#own[method]
    if (own !== undefined) return own(...args)
    const target = (port === 'nft' ? this.nft : this.hypervisor) as unknown as Record<string, Method>
    const found = target[method]
    if (found === undefined) throw new Error(`there is no ${port}.${method}`)
    return found.apply(target, [...args, this.#wait])
  }

  /** Calls whose arguments or answers cannot go between processes as they are. */
  readonly #own: Readonly<Record<string, Method>> = {
    uploadBase: async (volume, bytes) =>
      await this.hypervisor.uploadBase(volume as Volume, Readable.from([bytes]), this.#wait),
    storeDisk: async (disk, bytes) =>
      await this.hypervisor.storeDisk(
        disk as Volume & { capacityBytes: number },
        Readable.from([bytes]),
        this.#wait
      ),
    domainUses: async (only) =>
      await this.hypervisor.domainUses(this.#wait, only === 'foreign' ? only : undefined),
    readVolume: async (name) => await buffer(await this.hypervisor.readVolume(String(name), this.#wait)),
    writeRange: async (name, offset, bytes) =>
      await this.hypervisor.writeRange(
        String(name),
        Number(offset),
        Buffer.from(bytes as Uint8Array),
        this.#wait
      ),
    spoilVolume: async (name, bytes) =>
      this.hypervisor.spoilVolume(String(name), Buffer.from(bytes as Uint8Array)),
    describeVolume: async (name, survey) =>
      this.hypervisor.describeVolume(String(name), survey as Partial<VolumeSurvey>),
    tamper: async (vm, tampering) => this.hypervisor.tamper(String(vm), tampering as Tampering),
    writeAsGuest: async (vm, role, offset, bytes) =>
      this.hypervisor.backups.disk(String(vm), role as DiskRole).write(Number(offset), bytes as Uint8Array),
    apply: async (commands) => await this.nft.apply(commands as NftCommand[], this.#wait),
    beginBackup: async (vm, request) => await this.#beginBackup(String(vm), request as BackupRequest),
    endBackup: async (job, keepCheckpoint) =>
      await this.#jobs.get(Number(job))?.end({ ...this.#wait, keepCheckpoint: keepCheckpoint === true }),
    openDisk: async (job, role) => await this.#openDisk(Number(job), role as DiskRole),
    readDisk: async (source, offset, length) => {
      const bytes = new Uint8Array(Number(length))
      await this.#sources.get(Number(source))?.read(Number(offset), bytes, this.#wait)
      return bytes
    }
  }

  async #beginBackup(vm: string, request: BackupRequest) {
    const begun = await this.hypervisor.beginBackup(vm, request, this.#wait)
    const job = ++this.#last
    this.#jobs.set(job, begun)
    begun.signal.addEventListener('abort', () => this.listener?.onJobLost(job, begun.signal.reason))
    const { disks, signal: _signal, end: _end, ...about } = begun
    return { ...about, job, disks: disks.map(({ role, sizeBytes }) => ({ role, sizeBytes })) }
  }

  async #openDisk(job: number, role: DiskRole) {
    const disk = this.#jobs.get(job)?.disks.find((each) => each.role === role)
    if (disk === undefined) throw new Error(`backup job ${job} has no ${role} disk`)
    const opened = await disk.open(this.#wait)
    const source = ++this.#last
    this.#sources.set(source, opened)
    const extents: Extent[] = []
    for await (const extent of opened.extents(this.#wait)) extents.push(extent)
    return { source, sizeBytes: opened.sizeBytes, extents }
  }
}

/** Paths in it lead to the other directory. */
function moved(value: unknown, from: string, to: string): unknown {
  if (typeof value === 'string') return value.startsWith(from) ? to + value.slice(from.length) : value
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value
  if (Array.isArray(value)) return value.map((each) => moved(each, from, to))
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, moved(each, from, to)]))
}
