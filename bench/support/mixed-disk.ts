// A disk of mixed data as raw and as qcow2, and a qemu-nbd that serves it.

import { execFileSync } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
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

const text = Buffer.alloc(
  mebibyte,
  'What a disk holds is mostly words, numbers and programs, one after another. '
)

/** In turn a mebibyte that cannot be compressed, one of text, and a hole. */
export function makeMixedDisk(sizeBytes: number): MixedDisk {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-bench-disk-'))
  const files = { raw: join(directory, 'disk.raw'), qcow2: join(directory, 'disk.qcow2') }
  const file = openSync(files.raw, 'w')
  const random = Buffer.alloc(mebibyte)
  let dataBytes = 0
  for (let at = 0, turn = 0; at < sizeBytes; at += mebibyte, turn = (turn + 1) % 3) {
    if (turn === 2) continue
    writeSync(file, turn === 0 ? randomFillSync(random) : text, 0, mebibyte, at)
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

export async function serveImage(disk: MixedDisk, format: ImageFormat): Promise<QemuNbd> {
  const { signal } = new AbortController()
  return await startQemuNbd({ file: disk.files[format], format, signal })
}
