// Disk images for tests, made by QEMU's own tools, and what those tools and libnbd's say of them.

import { execFileSync } from 'node:child_process'
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const luksAttemptsMax = 20

export const kibibyte = 1024
export const mebibyte = 1024 * kibibyte

export interface Piece {
  readonly at: number
  readonly length: number
  /** What every byte of it is. */
  readonly byte: number
}

/** A directory that goes with the test. */
export function temporaryDirectory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'hostlet-nbd-image-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) }
}

export function makeRaw(path: string, sizeBytes: number, pieces: readonly Piece[]): void {
  const file = openSync(path, 'w')
  ftruncateSync(file, sizeBytes)
  for (const { at, length, byte } of pieces) writeSync(file, Buffer.alloc(length, byte), 0, length, at)
  closeSync(file)
}

export function makeQcow2(path: string, sizeBytes: number, pieces: readonly Piece[] = []): void {
  tool('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(sizeBytes)])
  if (pieces.length > 0) overwrite(path, pieces)
}

/** As a guest would: bitmaps of the image take note. */
export function overwrite(path: string, pieces: readonly Piece[]): void {
  const commands = pieces.flatMap(({ at, length, byte }) => ['-c', `write -P ${byte} ${at} ${length}`])
  tool('qemu-io', ['-f', 'qcow2', ...commands, path])
}

export function addBitmap(path: string, name: string): void {
  tool('qemu-img', ['bitmap', '--add', '-g', '65536', path, name])
}

/** Options of QEMU's tools that open a LUKS image; the passphrase lies beside it. */
function luksOptions(path: string, passphrase: string): { secret: string[]; image: string } {
  writeFileSync(`${path}.passphrase`, passphrase, { mode: 0o600 })
  return {
    secret: ['--object', `secret,id=key,file=${path}.passphrase`],
    image: `driver=qcow2,encrypt.key-secret=key,file.filename=${path}`
  }
}

export function makeLuks(
  path: string,
  sizeBytes: number,
  passphrase: string,
  pieces: readonly Piece[] = []
): void {
  const { secret, image } = luksOptions(path, passphrase)
  const format = 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10'
  retried(() =>
    tool('qemu-img', ['create', '-q', '-f', 'qcow2', ...secret, '-o', format, path, String(sizeBytes)])
  )
  const commands = pieces.flatMap(({ at, length, byte }) => ['-c', `write -P ${byte} ${at} ${length}`])
  if (pieces.length > 0) tool('qemu-io', [...secret, ...commands, '--image-opts', image])
}

/** qemu-img measures the CPU for its key derivation, and gives up at times on a busy machine. */
function retried<Made>(make: () => Made): Made {
  for (let attempt = 1; ; attempt++)
    try {
      return make()
    } catch (error) {
      if (attempt === luksAttemptsMax) throw error
    }
}

/** What the image holds, by qemu-img. */
export function contentOf(path: string, format: 'raw' | 'qcow2', passphrase?: string): Buffer {
  const output = `${path}.content`
  const { secret, image } =
    passphrase === undefined ? { secret: [], image: undefined } : luksOptions(path, passphrase)
  const input = image === undefined ? ['-f', format, path] : ['--image-opts', image]
  tool('qemu-img', ['convert', ...secret, '-O', 'raw', ...input, output])
  const content = readFileSync(output)
  rmSync(output)
  return content
}

export interface Mapped {
  readonly offset: number
  readonly length: number
  readonly type: number
}

/** The runs of a context by nbdinfo. */
export function mapBy(socketPath: string, context?: string): Mapped[] {
  const map = context === undefined ? '--map' : `--map=${context}`
  return JSON.parse(tool('nbdinfo', [map, '--json', uriOf(socketPath)])) as Mapped[]
}

/** The content of an export by nbdcopy. */
export function copyBy(socketPath: string, output: string): Buffer {
  tool('nbdcopy', [uriOf(socketPath), output])
  return readFileSync(output)
}

export function uriOf(socketPath: string): string {
  return `nbd+unix:///?socket=${socketPath}`
}

export function tool(program: string, args: readonly string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}
