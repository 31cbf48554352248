// Changes the passphrase of an encrypted disk that no VM uses, such that at every instant a key that is kept opens it.

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { runProcess } from '../../lib/run-process.ts'
import type { Hypervisor, Wait } from '../host/hypervisor.ts'
import { luksIterationMs, retryLuks, runLuks } from '../host/luks-format.ts'
import { clusterBytes, luksHeaderRange } from '../host/qcow2-luks.ts'
import { privateWorkPrefix } from '../host/scratch.ts'
import type { VolumeRange } from '../host/sealed-port.ts'
import type { DiskKeys, PassphraseChange } from './disk-keys.ts'

export interface RekeyingOptions {
  readonly hypervisor: Pick<Hypervisor, 'readRange' | 'writeRange' | 'removeSecret'>
  readonly keys: DiskKeys
  /** On memory-backed storage: keys pass through it. */
  readonly directory: string
  readonly clock: Pick<Clock, 'sleep'>
}

export interface DiskToRekey {
  /** Of its key. */
  readonly id: string
  readonly volume: string
}

/** The table of the slots. What the slots hold lies behind it. */
const tableBytes = 4_096
const headerBytesMax = 16 * 1024 ** 2
/** LUKS as a file of its own needs a first sector behind its header. */
const payloadBytes = 4_096
const openMs = 30_000

export class Rekeying {
  readonly #options: RekeyingOptions

  constructor(options: RekeyingOptions) {
    this.#options = options
  }

  /** Has the disk open with a new passphrase besides. Ends an earlier change first. Goes on after a crash. */
  async add(disk: DiskToRekey, wait: Wait): Promise<void> {
    const { keys } = this.#options
    await this.end(disk, wait)
    const change = await keys.beginChange(disk.id)
    await this.#edit(disk, change, wait, async (header) => {
      if (await header.opens('to')) return
      await header.require('from')
      await header.amend('from', ['state=active', 'new-secret=to', `iter-time=${luksIterationMs}`])
      // The table last: a slot that counts is whole.
      await header.writeSlots()
      await header.writeTable()
    })
    await this.#edit(disk, change, wait, async (header) => {
      await header.require('to')
    })
    keys.turnOver(disk.id)
  }

  /** Has the disk open with the old passphrase no more, and destroys it. No effect where no change is to be ended. */
  async end(disk: DiskToRekey, wait: Wait): Promise<void> {
    const { keys, hypervisor } = this.#options
    const change = await keys.changeToEnd(disk.id)
    if (change === undefined) return
    await this.#edit(disk, change, wait, async (header) => {
      await header.require('to')
      if (!(await header.opens('from'))) return
      await header.amend('to', ['state=inactive', 'old-secret=from'])
      await header.writeTable()
      await header.writeSlots()
    })
    // The next start tells libvirt the new one. Before the change ends: nobody would come again for what libvirt still knows.
    await hypervisor.removeSecret(disk.id, wait)
    keys.endChange(disk.id)
  }

  async #edit(
    { volume }: DiskToRekey,
    change: PassphraseChange,
    wait: Wait,
    work: (header: Header) => Promise<void>
  ): Promise<void> {
    const { hypervisor, directory, clock } = this.#options
    const first = await hypervisor.readRange(volume, { offsetBytes: 0, lengthBytes: clusterBytes }, wait)
    const range = luksHeaderRange(first)
    if (range.lengthBytes > headerBytesMax)
      throw new HostletError('E_CORRUPT', `the header of volume ${volume} is too large to be one`)
    const content = await hypervisor.readRange(volume, range, wait)
    const workDirectory = await mkdtemp(join(directory, privateWorkPrefix))
    try {
      const options = { hypervisor, clock, volume, range, directory: workDirectory, wait }
      await writeFile(join(workDirectory, 'header'), Buffer.concat([content, Buffer.alloc(payloadBytes)]), {
        mode: 0o600
      })
      for (const which of ['from', 'to'] as const)
        await writeFile(join(workDirectory, which), change[which], { mode: 0o600 })
      await work(new Header(options))
    } finally {
      await rm(workDirectory, { recursive: true, force: true })
    }
  }
}

type Which = keyof PassphraseChange

interface HeaderOptions {
  readonly hypervisor: Pick<Hypervisor, 'writeRange'>
  readonly clock: Pick<Clock, 'sleep'>
  readonly volume: string
  readonly range: VolumeRange
  readonly directory: string
  readonly wait: Wait
}

/** A copy of the LUKS header of a volume, as a LUKS file of its own, which is what QEMU's programs can change. */
class Header {
  readonly #options: HeaderOptions

  constructor(options: HeaderOptions) {
    this.#options = options
  }

  async opens(which: Which): Promise<boolean> {
    const { signal } = this.#options.wait
    const args = ['-r', ...this.#secrets(), '--image-opts', this.#image(which), '-c', 'quit']
    const { exitCode } = await runProcess('qemu-io', args, { signal, deadlineMs: openMs })
    return exitCode === 0
  }

  async require(which: Which): Promise<void> {
    if (await this.opens(which)) return
    throw new HostletError(
      'E_CORRUPT',
      `volume ${this.#options.volume} does not open with the key that is kept for it. Nothing more was changed; restore the VM from a backup.`,
      { details: { volume: this.#options.volume } }
    )
  }

  async amend(openedWith: Which, change: readonly string[]): Promise<void> {
    const { wait, clock } = this.#options
    const args = [...this.#secrets(), '-o', change.join(','), '--image-opts', this.#image(openedWith)]
    // What failed has changed nothing: QEMU measures the machine first.
    await retryLuks(
      { ...wait, clock },
      () => runLuks('qemu-img', ['amend', '-q', ...args], { ...wait, clock }),
      () => Promise.resolve()
    )
  }

  async writeTable(): Promise<void> {
    await this.#write(0, tableBytes)
  }

  async writeSlots(): Promise<void> {
    await this.#write(tableBytes, this.#options.range.lengthBytes)
  }

  async #write(from: number, to: number): Promise<void> {
    const { hypervisor, volume, range, directory, wait } = this.#options
    const content = await readFile(join(directory, 'header'))
    await hypervisor.writeRange(volume, range.offsetBytes + from, content.subarray(from, to), wait)
  }

  #secrets(): string[] {
    const { directory } = this.#options
    return ['from', 'to'].flatMap((which) => [
      '--object',
      `secret,id=${which},file=${join(directory, which)}`
    ])
  }

  #image(openedWith: Which): string {
    return `driver=luks,file.filename=${join(this.#options.directory, 'header')},key-secret=${openedWith}`
  }
}
