// The port to the kernel's packet filter: transactions, what is there, and word of changes. One contract suite holds both sides.

import { randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { HostletError } from '../../errors.ts'
import { Backoff } from '../../lib/backoff.ts'
import type { Clock } from '../../lib/clock.ts'
import { followLines } from '../../lib/follow-lines.ts'
import type { Logger } from '../../lib/log.ts'
import { runProcess } from '../../lib/run-process.ts'
import type { Wait } from '../host/hypervisor.ts'
import { families, type NftCommand, type NftObject } from './nft-json.ts'

export interface Nft {
  /** All of it or nothing, with no moment in between. Throws E_UNAVAILABLE when it cannot be applied. */
  apply(commands: readonly NftCommand[], wait: Wait): Promise<void>
  /** Whether it could be applied; changes nothing. */
  check(commands: readonly NftCommand[], wait: Wait): Promise<boolean>
  /** Objects of both tables of a name: none where there is no table. Throws E_UNAVAILABLE. */
  read(table: string, wait: Wait): Promise<readonly NftObject[]>
  /** Tells of changes to tables of the name, whoever made them, and when it may have missed some. */
  watch(table: string, onChange: () => void): AsyncDisposable
}

/** Of files that are there only while nft reads them. */
export const rulesFilePrefix = 'rules-'
const runMs = 30_000
/** Of a listing: some kilobytes for each VM. */
const outputBytesMax = 128 * 1024 * 1024
const faultCharactersMax = 500
const backoff = { baseMs: 250, capMs: 30_000 }

export interface SystemNftOptions {
  /** In memory: where rules lie while nft reads them. */
  readonly directory: string
  readonly clock: Clock
  readonly log: Logger
}

export class SystemNft implements Nft {
  readonly #options: SystemNftOptions

  constructor(options: SystemNftOptions) {
    this.#options = options
  }

  async apply(commands: readonly NftCommand[], wait: Wait): Promise<void> {
    const { exitCode, stderr } = await this.#give(['-j'], commands, wait)
    if (exitCode !== 0) throw refusal(stderr)
  }

  async check(commands: readonly NftCommand[], wait: Wait): Promise<boolean> {
    return (await this.#give(['-c', '-j'], commands, wait)).exitCode === 0
  }

  async read(table: string, wait: Wait): Promise<readonly NftObject[]> {
    const tables = await this.#list(['tables'], wait)
    const there = families.filter((family) =>
      tables.some(({ table: each }) => each?.family === family && each.name === table)
    )
    return (await Promise.all(there.map((family) => this.#list(['table', family, table], wait)))).flat()
  }

  watch(table: string, onChange: () => void): AsyncDisposable {
    const stopping = new AbortController()
    const done = this.#follow(table, onChange, stopping.signal)
    return {
      [Symbol.asyncDispose]: async () => {
        stopping.abort()
        await done
      }
    }
  }

  /** A monitor that ends, such as when it could not keep up, is replaced; what it may have missed is looked for. */
  async #follow(table: string, onChange: () => void, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options
    const waits = new Backoff(backoff)
    while (!signal.aborted) {
      const startedAt = clock.monotonic()
      const ended = await followLines('nft', ['monitor'], {
        signal,
        onLine: (line) => isAbout(line, table) && onChange()
      })
      if (signal.aborted) return
      if (clock.monotonic() - startedAt > backoff.capMs) waits.reset()
      const waitMs = waits.nextMs()
      log.warn({ ended, waitMs }, 'the watch over the network rules ended and is begun anew')
      await clock.sleep(waitMs, signal).catch(() => undefined)
      if (!signal.aborted) onChange()
    }
  }

  async #list(what: readonly string[], wait: Wait): Promise<readonly NftObject[]> {
    const { exitCode, stdout, stderr } = await this.#run(['-j', 'list', ...what], wait)
    if (exitCode !== 0) throw refusal(stderr)
    return objectsIn(stdout)
  }

  /** In a file: nft opens /dev/stdin by name, which Node's kind of pipe, a socket, does not allow. */
  async #give(args: readonly string[], commands: readonly NftCommand[], wait: Wait) {
    const { directory } = this.#options
    await mkdir(directory, { recursive: true, mode: 0o711 })
    const path = join(directory, `${rulesFilePrefix}${randomBytes(6).toString('hex')}.json`)
    try {
      await writeFile(path, JSON.stringify({ nftables: commands }), { mode: 0o600, flag: 'wx' })
      return await this.#run([...args, '-f', path], wait)
    } finally {
      await rm(path, { force: true })
    }
  }

  #run(args: readonly string[], { signal }: Wait) {
    const options = { signal, clock: this.#options.clock, deadlineMs: runMs, outputBytesMax }
    return runProcess('nft', args, options)
  }
}

/** What nft lists, without its own line about itself. Throws E_UNAVAILABLE when it cannot be read. */
export function objectsIn(json: string): readonly NftObject[] {
  const { nftables } = parsed(json)
  if (!Array.isArray(nftables)) throw refusal('its listing is not JSON of nftables')
  return nftables.filter((each): each is NftObject => isObject(each) && !('metainfo' in each))
}

function parsed(json: string): { nftables?: unknown } {
  try {
    const value: unknown = JSON.parse(json)
    return isObject(value) ? value : {}
  } catch {
    return {}
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

/** `delete table inet hostlet`, `add element bridge hostlet from { … }` */
function isAbout(line: string, table: string): boolean {
  return families.some((family) => `${line} `.includes(` ${family} ${table} `))
}

function refusal(stderr: string): HostletError {
  const [fault = 'it ended without a word'] = stderr.trim().split('\n')
  return new HostletError(
    'E_UNAVAILABLE',
    `the network rules cannot be applied or read: nft says: ${fault.slice(0, faultCharactersMax)}. See "nft list tables" as the agent's user: it needs CAP_NET_ADMIN, the package nftables and the kernel's nf_tables.`
  )
}
