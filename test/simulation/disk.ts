// The disk under a host's state directory: what was written is there for every process, and stays after a loss of power as far
// as it was synced. Its syncs take time of the world.

import {
  closeSync,
  copyFileSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync
} from 'node:fs'
import { join } from 'node:path'
import type { Random } from './random.ts'
import type { Life, VirtualTime } from './virtual-time.ts'

export interface DiskOptions {
  /** Where copies are kept. */
  readonly directory: string
  readonly statePath: string
  readonly time: VirtualTime
  readonly random: Random
  /** Of one sync; 0 for disks that are done at once. */
  readonly syncMsMax: number
}

/** As much of a FileHandle as the audit trail uses. */
export interface SimulatedHandle extends AsyncDisposable {
  write(bytes: Buffer, offset?: number): Promise<{ bytesWritten: number }>
  read(
    into: Buffer,
    offset: number,
    length: number,
    position: number
  ): Promise<{ bytesRead: number; buffer: Buffer }>
  appendFile(text: string | Buffer): Promise<void>
  truncate(bytes: number): Promise<void>
  sync(): Promise<void>
  datasync(): Promise<void>
  close(): Promise<void>
}

interface Journal {
  /** Its log. */
  readonly descriptor: number
  syncedBytes: number
}

const database = 'agent.db'
const log = 'agent.db-wal'

export class Disk {
  /** Nothing more fits. */
  isFull = false
  readonly #options: DiskOptions
  #life: Life = { isAlive: false }
  #journal: Journal | undefined
  /** What a process that is gone left in the log, and how much of it the disk has. */
  #left: { readonly syncedBytes: number } | undefined
  /** Of the files that are only appended to: how much the disk has. */
  readonly #synced = new Map<string, number>()
  readonly #open = new Set<number>()

  constructor(options: DiskOptions) {
    this.#options = options
  }

  /** Another process of the host begins. Opening the journal carries over and syncs what the one before left. */
  begin(life: Life): void {
    this.#life = life
    this.#journal = undefined
    this.#left = undefined
  }

  /** The journal's sync, through the descriptor of its log. */
  sync = async (descriptor: number): Promise<void> => {
    this.#journal ??= { descriptor, syncedBytes: 0 }
    const journal = this.#journal
    const { size } = fstatSync(descriptor)
    this.#open.add(descriptor)
    const life = this.#life
    await this.#wait()
    // Killed between the end of the wait and now.
    if (!life.isAlive) await new Promise(() => undefined)
    this.#open.delete(descriptor)
    journal.syncedBytes = size
  }

  /** A file of the agent that runs. */
  open(path: string, flags: string, mode?: number): SimulatedHandle {
    const life = this.#life
    const { isAlive } = life
    const descriptor = openSync(path, flags, mode)
    this.#open.add(descriptor)
    const isFile = isAlive && fstatSync(descriptor).isFile()
    const sync = async () => {
      if (!isFile) return
      const { size } = fstatSync(descriptor)
      await this.#wait()
      if (isAlive && !life.isAlive) await new Promise(() => undefined)
      this.#synced.set(path, size)
    }
    const write = async (bytes: Buffer | string): Promise<number> => {
      if (isAlive && !life.isAlive) return await new Promise(() => undefined)
      if (this.isFull) throw Object.assign(new Error('no space left on the disk'), { code: 'ENOSPC' })
      if (isFile && !this.#synced.has(path)) this.#synced.set(path, fstatSync(descriptor).size)
      return writeSync(descriptor, Buffer.from(bytes))
    }
    let isOpen = true
    const close = async () => {
      // The end of its process has closed it, or it was closed before, and the number may be another file's by now.
      if (!isOpen || (isAlive && !life.isAlive)) return
      isOpen = false
      if (this.#open.delete(descriptor)) closeSync(descriptor)
    }
    return {
      write: async (bytes, offset = 0) => ({ bytesWritten: await write(bytes.subarray(offset)) }),
      read: async (into, offset, length, position) => {
        if (isAlive && !life.isAlive) return await new Promise(() => undefined)
        return { bytesRead: readSync(descriptor, into, offset, length, position), buffer: into }
      },
      appendFile: async (text) => void (await write(text)),
      truncate: async (bytes) => ftruncateSync(descriptor, bytes),
      sync,
      datasync: sync,
      close,
      [Symbol.asyncDispose]: close
    }
  }

  /** The process ends, however; `close` lets go of its database. */
  end(close: () => void): void {
    // Nothing of a log that nobody ever synced is on the disk.
    const syncedBytes = this.#journal?.syncedBytes ?? 0
    if (sizeOf(join(this.#options.statePath, log)) > syncedBytes) {
      for (const name of [database, log]) copyFileSync(join(this.#options.statePath, name), this.#kept(name))
      this.#left = { syncedBytes }
    }
    this.#journal = undefined
    close()
    // Those whose sync nobody waits for any more.
    for (const descriptor of this.#open) closeSync(descriptor)
    this.#open.clear()
  }

  /** No process runs. Of what was not synced some is there, up to any byte. Returns how many bytes are lost. */
  losePower(): number {
    const { statePath } = this.#options
    let lost = 0
    if (this.#left !== undefined) {
      for (const name of [database, log, `${database}-shm`]) rmSync(join(statePath, name), { force: true })
      for (const name of [database, log]) copyFileSync(this.#kept(name), join(statePath, name))
      lost += this.#cut(join(statePath, log), this.#left.syncedBytes)
      this.#left = undefined
    }
    for (const [path, bytes] of this.#synced) if (existsSync(path)) lost += this.#cut(path, bytes)
    this.#synced.clear()
    return lost
  }

  /** The directory was removed. */
  forget(): void {
    this.#left = undefined
    this.#synced.clear()
  }

  #cut(path: string, syncedBytes: number): number {
    const { size } = statSync(path)
    if (size <= syncedBytes) return 0
    const { random } = this.#options
    const kept = random.chance(0.5) ? syncedBytes : random.between(syncedBytes, size)
    truncateSync(path, kept)
    return size - kept
  }

  /** Never ends for a process that is killed meanwhile. */
  async #wait(): Promise<void> {
    const { time, random, syncMsMax } = this.#options
    const life = this.#life
    if (syncMsMax === 0) await undefined
    else await new Promise<void>((resolve) => time.after(random.between(1, syncMsMax), resolve))
    if (!life.isAlive) await new Promise(() => undefined)
  }

  #kept(name: string): string {
    return join(this.#options.directory, `kept-${name}`)
  }
}

function sizeOf(path: string): number {
  return existsSync(path) ? statSync(path).size : 0
}
