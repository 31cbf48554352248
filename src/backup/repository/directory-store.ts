// Objects as files below one directory, local or of a network file system: whole or not at all, flushed, private.

import { randomUUID } from 'node:crypto'
import type { Dir, Stats } from 'node:fs'
import { lstat, opendir, readdir, rename, rm } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'
import { HostletError } from '../../errors.ts'
import { type Clock, systemClock } from '../../lib/clock.ts'
import { startDeadline, untilAborted } from '../../lib/deadline.ts'
import { Limiter } from '../../lib/limiter.ts'
import type { Wait } from '../disk.ts'
import { directoryError, hasSystemCode } from './directory-errors.ts'
import { linkWhole, readPart, writeFlushed } from './directory-files.ts'
import { Folder } from './folder.ts'
import { checkLength, clampRange, contentBytes, noSuchObject } from './object-bounds.ts'
import { isSegment, segmentsOf, splitPrefix } from './object-name.ts'
import type { ObjectEntry, ObjectStore } from './store.ts'

/** Half-made files lie here; the name is none that an object can have. */
export const partialsFolder = '~partial'
/** Older half-made files are of writers that died. */
export const partialAgeMaxMs = 86_400_000
/** One system call or file at a time each; less than the threads that Node has, so that a dead mount leaves one. */
const callsMax = 3
const waitingMax = 1_024
/** Entries of a folder that are read and looked at in one turn. */
const entriesPerTurn = 256
/** A file system that takes longer for one object does not answer. */
const answerMsMax = 300_000
const closeMsMax = 5_000

export class DirectoryStore implements ObjectStore {
  readonly description: string
  readonly #root: Folder
  readonly #clock: Pick<Clock, 'timer'>
  readonly #line = new Limiter({ concurrencyMax: callsMax, waitingMax })
  readonly #working = new Set<Promise<unknown>>()
  #swept = false

  private constructor(path: string, root: Folder, clock: Pick<Clock, 'timer'>) {
    this.description = pathToFileURL(path).href
    this.#root = root
    this.#clock = clock
  }

  /** Opens a directory that exists. Throws E_NOT_FOUND, E_AUTH, E_UNAVAILABLE. */
  static async open(path: string, { clock = systemClock }: { clock?: Pick<Clock, 'timer'> } = {}) {
    try {
      return new DirectoryStore(path, await Folder.openRoot(path), clock)
    } catch (error) {
      if (hasSystemCode(error, 'ENOENT', 'ENOTDIR'))
        throw new HostletError(
          'E_NOT_FOUND',
          `the repository ${path} is no directory. Mount it, or make it (mkdir -m 0700) for the user that runs hostlet.`,
          { cause: error }
        )
      throw directoryError(error, pathToFileURL(path).href, '.')
    }
  }

  async put(name: string, content: readonly Uint8Array[], wait: Wait & { readonly ifAbsent?: boolean }) {
    const segments = segmentsOf(name)
    contentBytes(name, content)
    await this.#run(name, wait, async (signal) => {
      await using partials = await this.#root.open([partialsFolder], { create: true })
      const partial = partials.path(randomUUID())
      try {
        await writeFlushed(partial, content, signal)
        await this.#sweep(partials, partial)
        await using folder = await this.#root.open(segments.slice(0, -1), { create: true })
        const path = folder.path(segments.at(-1) ?? '')
        signal.throwIfAborted()
        if (wait.ifAbsent) await linkWhole(partial, path, { name, description: this.description })
        else await rename(partial, path)
        await folder.sync()
      } finally {
        await rm(partial, { force: true })
      }
    })
  }

  async get(
    name: string,
    wait: Wait & { readonly range?: { readonly offset: number; readonly length: number } }
  ): Promise<Uint8Array> {
    const { content } = await this.#read(name, wait, (sizeBytes) =>
      clampRange(wait.range ?? { offset: 0, length: sizeBytes }, sizeBytes)
    )
    return content
  }

  async getEnd(name: string, length: number, wait: Wait) {
    checkLength(length)
    return await this.#read(name, wait, (sizeBytes) =>
      clampRange({ offset: Math.max(0, sizeBytes - length), length }, sizeBytes)
    )
  }

  async *list(prefix: string, wait: Wait): AsyncGenerator<ObjectEntry> {
    const { folder, beginning } = splitPrefix(prefix)
    const folders: { segments: string[]; beginning: string }[] = [{ segments: folder, beginning }]
    for (let next = folders.pop(); next !== undefined; next = folders.pop()) {
      const { segments, beginning } = next
      for await (const { name, stats } of this.#entries(segments, beginning, wait)) {
        const path = [...segments, name]
        if (stats.isDirectory()) folders.push({ segments: path, beginning: '' })
        if (stats.isFile())
          yield { name: path.join('/'), sizeBytes: stats.size, modifiedAt: Math.round(stats.mtimeMs) }
      }
    }
  }

  async remove(name: string, wait: Wait): Promise<void> {
    const segments = segmentsOf(name)
    await this.#run(name, wait, async () => {
      try {
        await using folder = await this.#root.open(segments.slice(0, -1))
        await rm(folder.path(segments.at(-1) ?? ''))
        await folder.sync()
      } catch (error) {
        if (!hasSystemCode(error, 'ENOENT')) throw error
      }
    })
  }

  async close(): Promise<void> {
    // A dead mount may hold a call for ever; its descriptors then go with the process.
    using deadline = startDeadline({ clock: this.#clock, ms: closeMsMax, what: 'closing' })
    const idle = await untilAborted(Promise.allSettled(this.#working), deadline.signal).catch(() => undefined)
    if (idle !== undefined) await this.#root[Symbol.asyncDispose]()
  }

  /** Once: removes half-made files of writers that died. The age is by the file system's own clock, as a new file shows it. */
  async #sweep(partials: Folder, newest: string): Promise<void> {
    if (this.#swept) return
    this.#swept = true
    await removeOlder(partials, (await lstat(newest)).mtimeMs - partialAgeMaxMs)
  }

  async #read(
    name: string,
    wait: Wait,
    part: (sizeBytes: number) => { offset: number; length: number }
  ): Promise<{ content: Uint8Array; sizeBytes: number }> {
    const segments = segmentsOf(name)
    return await this.#run(name, wait, async (signal) => {
      try {
        await using folder = await this.#root.open(segments.slice(0, -1))
        await using file = await folder.openFile(segments.at(-1) ?? '')
        return await readPart(file, part, { name, description: this.description, signal })
      } catch (error) {
        if (hasSystemCode(error, 'ENOENT')) throw noSuchObject(name, this.description, error)
        throw error
      }
    })
  }

  async *#entries(segments: string[], beginning: string, wait: Wait) {
    const name = segments.join('/')
    const opened = await this.#run(name, wait, () => openForList(this.#root, segments))
    if (opened === undefined) return
    await using folder = opened.folder
    await using entries = opened.entries
    for (;;) {
      const batch = await this.#run(name, wait, () => nextEntries(folder, entries, beginning))
      yield* batch.entries
      if (batch.ended) return
    }
  }

  /** One turn of the line. The caller is let go at its abort or deadline; the place is kept until the work has ended. */
  async #run<Value>(name: string, wait: Wait, work: (signal: AbortSignal) => Promise<Value>): Promise<Value> {
    const ticket = this.#line.enter()
    await ticket.turn(wait.signal).catch((error) => {
      ticket[Symbol.dispose]()
      throw error
    })
    using deadline = startDeadline({ clock: this.#clock, ms: answerMsMax, what: name, signal: wait.signal })
    const working = work(deadline.signal).finally(() => {
      ticket[Symbol.dispose]()
      this.#working.delete(working)
    })
    this.#working.add(working)
    try {
      return await untilAborted(working, deadline.signal)
    } catch (error) {
      wait.signal.throwIfAborted()
      if (deadline.signal.aborted) throw noAnswer(this.description, name, error)
      throw directoryError(error, this.description, name)
    }
  }
}

interface Entry {
  readonly name: string
  readonly stats: Stats
}

async function openForList(root: Folder, segments: string[]) {
  try {
    const folder = await root.open(segments)
    return { folder, entries: await opendir(folder.path('.'), { bufferSize: entriesPerTurn }) }
  } catch (error) {
    if (hasSystemCode(error, 'ENOENT')) return undefined
    throw error
  }
}

async function nextEntries(folder: Folder, entries: Dir, beginning: string) {
  const batch: Entry[] = []
  for (let seen = 0; seen < entriesPerTurn; seen++) {
    const entry = await entries.read()
    if (entry === null) return { entries: batch, ended: true }
    if (!isSegment(entry.name) || !entry.name.startsWith(beginning)) continue
    // Not by the entry's own kind: some network file systems do not say it.
    const stats = await statsOf(folder, entry.name)
    if (stats !== undefined) batch.push({ name: entry.name, stats })
  }
  return { entries: batch, ended: false }
}

async function removeOlder(folder: Folder, limitMs: number): Promise<void> {
  for (const name of await readdir(folder.path('.'))) {
    const stats = await statsOf(folder, name)
    if (stats?.isFile() && stats.mtimeMs < limitMs) await rm(folder.path(name), { force: true })
  }
}

/** Undefined when it was removed in between. */
async function statsOf(folder: Folder, name: string): Promise<Stats | undefined> {
  try {
    return await lstat(folder.path(name))
  } catch (error) {
    if (hasSystemCode(error, 'ENOENT')) return undefined
    throw error
  }
}

function noAnswer(description: string, name: string, cause: unknown): HostletError {
  return new HostletError(
    'E_UNAVAILABLE',
    `the repository ${description} has not answered for ${answerMsMax / 1_000} s (at "${name}"). Look at its mount and the kernel log.`,
    { cause, details: { repository: description, name } }
  )
}
