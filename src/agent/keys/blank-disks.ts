// Encrypted disks made ahead, of no VM yet: a private file on memory-backed storage each, whose key nobody but this process knows.

import { randomUUID } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { asHostletError, HostletError } from '../../errors.ts'
import { Backoff } from '../../lib/backoff.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { Wait } from '../host/hypervisor.ts'
import { formatLuks, newPassphrase } from '../host/luks-format.ts'
import { blankBytes } from '../host/qcow2-luks.ts'

export interface BlankDisk extends AsyncDisposable {
  readonly path: string
  readonly passphrase: string
  readonly sizeBytes: number
}

export interface BlankDisksOptions {
  /** Private, on memory-backed storage. Emptied at the beginning: keys of what is in it are lost with the process. */
  readonly directory: string
  /** How many are kept ready. */
  readonly count: number
  readonly clock: Pick<Clock, 'sleep'>
  readonly log: Logger
}

const retryBaseMs = 1_000
const retryCapMs = 60_000

export class BlankDisks implements AsyncDisposable {
  readonly #options: BlankDisksOptions
  readonly #stopping = new AbortController()
  readonly #ready: BlankDisk[] = []
  #filling: Promise<void> | undefined

  constructor(options: BlankDisksOptions) {
    this.#options = options
  }

  /** How many are ready. */
  get ready(): number {
    return this.#ready.length
  }

  async prepare(): Promise<void> {
    const { directory } = this.#options
    await rm(directory, { recursive: true, force: true })
    await mkdir(directory, { recursive: true, mode: 0o700 })
  }

  /** Makes them, one at a time and with what CPU nobody else wants. No effect while it does so. */
  fill(): void {
    if (this.#stopping.signal.aborted) return
    this.#filling ??= this.#fill().finally(() => {
      this.#filling = undefined
    })
  }

  /** Until enough are ready, or making one has failed. */
  async filled(): Promise<void> {
    await this.#filling
  }

  /** One that is ready, or a new one. It is the caller's alone from here on, to be disposed of. */
  async take(sizeBytes: number, wait: Wait): Promise<BlankDisk> {
    const ready = sizeBytes <= blankBytes ? this.#ready.shift() : undefined
    const taken = ready ?? (await this.#make({ ...wait, sizeBytes: Math.max(sizeBytes, blankBytes) }))
    this.fill()
    return taken
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new HostletError('E_CANCELLED', 'the agent is stopping'))
    await this.#filling
    for (const disk of this.#ready.splice(0)) await disk[Symbol.asyncDispose]()
  }

  async #fill(): Promise<void> {
    const { count, clock, log } = this.#options
    const { signal } = this.#stopping
    const backoff = new Backoff({ baseMs: retryBaseMs, capMs: retryCapMs })
    while (this.#ready.length < count && !signal.aborted) {
      try {
        this.#ready.push(await this.#make({ signal, sizeBytes: blankBytes, background: true }))
        backoff.reset()
      } catch (error) {
        if (signal.aborted) return
        log.warn({ error: asHostletError(error) }, 'an encrypted disk could not be made ahead')
        await clock.sleep(backoff.nextMs(), signal).catch(() => undefined)
      }
    }
  }

  async #make(order: Wait & { sizeBytes: number; background?: true }): Promise<BlankDisk> {
    const { directory, clock } = this.#options
    const { sizeBytes, ...wait } = order
    const path = join(directory, `${randomUUID()}.qcow2`)
    const passphrase = newPassphrase()
    const remove = () => rm(path, { force: true })
    await mkdir(directory, { recursive: true, mode: 0o700 })
    try {
      await formatLuks({ path, passphrase, sizeBytes }, { ...wait, clock })
    } catch (error) {
      await remove()
      throw error
    }
    return { path, passphrase, sizeBytes, [Symbol.asyncDispose]: remove }
  }
}
