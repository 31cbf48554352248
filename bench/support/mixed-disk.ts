// A disk of mixed data as raw and as qcow2, and a qemu-nbd that serves it.

import { execFileSync } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import {
  closeSync,
  ftruncateSync,
  lstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  writeSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type QemuNbd, startQemuNbd } from '../../src/backup/nbd/qemu-nbd.ts'

export const mebibyte = 1024 * 1024

export type ImageFormat = 'raw' | 'qcow2'

export interface MixedDisk extends Disposable {
  readonly files: Readonly<Record<ImageFormat, string>>
  readonly sizeBytes: number
  /** What is not a hole. */
  readonly dataBytes: number
}

/** What each mebibyte holds, in turn: a third cannot be compressed, a third is text, a sixth programs, a sixth holes. */
const turns = ['random', 'text', 'random', 'text', 'programs', 'hole'] as const
const programDirectories = ['/usr/bin', '/usr/lib/x86_64-linux-gnu']
/** In the words of the figures. */
export const mixedContent = 'a third random, a third text, a sixth programs, a sixth holes'

/** No mebibyte is like another, or a store of equal blocks would have little to do. */
export function makeMixedDisk(sizeBytes: number): MixedDisk {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-bench-disk-'))
  const files = { raw: join(directory, 'disk.raw'), qcow2: join(directory, 'disk.qcow2') }
  const fillers = { random: randomFillSync, text: textFiller(), programs: programFiller() }
  const file = openSync(files.raw, 'w')
  const content = Buffer.alloc(mebibyte)
  let dataBytes = 0
  for (let at = 0, turn = 0; at < sizeBytes; at += mebibyte, turn++) {
    const kind = turns[turn % turns.length] ?? 'hole'
    if (kind === 'hole') continue
    fillers[kind](content)
    writeSync(file, content, 0, mebibyte, at)
    dataBytes += mebibyte
  }
  ftruncateSync(file, sizeBytes)
  closeSync(file)
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', files.raw, files.qcow2])
  return {
    ...{ files, sizeBytes, dataBytes },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true })
  }
}

/** Sentences of a vocabulary in which some words are frequent and most are rare. */
function textFiller(): (target: Buffer) => void {
  const syllables = [
    'ka',
    'lo',
    'min',
    'ter',
    'an',
    'os',
    'pre',
    'ing',
    'ed',
    'con',
    'ra',
    'u',
    'st',
    'e',
    'qui'
  ]
  const pick = <Item>(items: readonly Item[], skew = 1) =>
    items[Math.floor(items.length * Math.random() ** skew)] as Item
  const words = Array.from({ length: 8_192 }, () =>
    Array.from({ length: 1 + Math.floor(Math.random() * 4) }, () => pick(syllables)).join('')
  )
  const sentences = Array.from({ length: 32_768 }, () =>
    Buffer.from(`${Array.from({ length: 8 }, () => pick(words, 3)).join(' ')}. `)
  )
  return (target) => {
    for (let at = 0; at < target.length; ) at += pick(sentences).copy(target, at)
  }
}

function programFiller(): (target: Buffer) => void {
  const files = programDirectories
    .flatMap((directory) => readdirSync(directory).map((name) => join(directory, name)))
    .filter((path) => lstatSync(path).isFile())
  let next = 0
  return (target) => {
    for (let at = 0; at < target.length; ) {
      const file = openSync(files[Math.floor(next / 16) % files.length] ?? '', 'r')
      // Long ones in pieces: many programs are of one kind.
      at += readSync(file, target, at, target.length - at, (next++ % 16) * mebibyte)
      closeSync(file)
    }
  }
}

export async function serveImage(disk: Pick<MixedDisk, 'files'>, format: ImageFormat): Promise<QemuNbd> {
  const { signal } = new AbortController()
  return await startQemuNbd({ file: disk.files[format], format, signal })
}
