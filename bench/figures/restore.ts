// Figure: restoring a disk from a repository against qemu-img convert of the same image, plain and LUKS.

import { execFileSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startQemuNbd } from '../../src/backup/nbd/qemu-nbd.ts'
import { openNbdTarget } from '../../src/backup/nbd/target.ts'
import { createQcow2File } from '../../src/backup/targets/qcow2-file.ts'
import { type Figure, interleave, type RatioRow, type RunOptions, ratioRow, timeMs } from '../harness.ts'
import { type BenchVault, makeRoom, openVault, type Place } from '../support/backup-engine.ts'
import { type MixedDisk, makeMixedDisk, mebibyte, mixedContent } from '../support/mixed-disk.ts'
import { timeSource } from '../support/nbd-disk.ts'
import { requireTools } from '../support/tools.ts'

const SIZE_BYTES = 2048 * mebibyte
const PASSPHRASE = 'a passphrase of the bench'
/** Deriving the key takes as long as it is told to: next to nothing, or it would be what is measured. */
const luks = ['encrypt.format=luks', 'encrypt.key-secret=passphrase', 'encrypt.iter-time=100'].join(',')
const wait = { signal: new AbortController().signal }

interface Variant {
  readonly what: string
  readonly encrypted: boolean
  readonly place: Place
  readonly pairs: number
}

const variants: readonly Variant[] = [
  { what: 'plain', encrypted: false, place: 'memory', pairs: 10 },
  { what: 'LUKS', encrypted: true, place: 'memory', pairs: 6 },
  { what: 'plain, from disk to disk', encrypted: false, place: 'disk', pairs: 3 },
  { what: 'LUKS, from disk to disk', encrypted: true, place: 'disk', pairs: 3 }
]

export const figure: Figure = {
  id: 'restore',
  title: 'Restoring a disk',
  run: async ({ quick, log }: RunOptions) => {
    requireTools(['qemu-img', 'qemu-nbd'])
    using disk = makeMixedDisk(quick ? SIZE_BYTES / 8 : SIZE_BYTES)
    const rows: RatioRow[] = []
    for (const variant of variants) {
      log(variant.what)
      rows.push(await race(disk, variant, quick ? 2 : variant.pairs))
    }
    return {
      rows,
      how: [
        `A disk of ${disk.sizeBytes / mebibyte} MiB (${mixedContent}). Ours: opens the vault, checks the manifest's signature, reads, authenticates, decrypts, decompresses, checks each block's address, and writes a qcow2; in the environment of the agent's unit. \`qemu-img convert\` copies the qcow2 that was backed up into another. For LUKS (inside qcow2) both fill an image that \`qemu-img create\` made before, ours through \`qemu-nbd\`, whose start is included.`,
        'Repository, image and target are in memory where nothing else is said. On a disk, source and repository are in the page cache; ours returns when the restored disk is flushed, and so the time of `qemu-img convert` includes a `sync` of its file there.'
      ]
    }
  }
}

async function race(disk: MixedDisk, { what, encrypted, place, pairs }: Variant, count: number) {
  using room = makeRoom(place)
  await using vault = await openVault(room.path)
  await timeSource({ file: disk.files.qcow2, format: 'qcow2' }, (source) => vault.backUp(source, 'all'))
  const image = imageIn(room.path, disk.sizeBytes)
  const contender = (work: () => unknown) => async () => {
    if (encrypted) image.makeEncrypted()
    execFileSync('sync')
    const ms = await timeMs(work)
    rmSync(image.target)
    return ms / 1_000
  }
  const { ours, peer } = await interleave({
    ours: contender(() => (encrypted ? restoreEncrypted(vault, image) : restorePlain(vault, image))),
    peer: contender(() => {
      convert(disk.files.qcow2, image, encrypted)
      if (place === 'disk') execFileSync('sync', [image.target])
    }),
    ...{ pairs: Math.min(count, pairs), warmUps: place === 'memory' ? 1 : 0 }
  })
  return ratioRow({
    what,
    first: ['ours', ours],
    second: ['qemu-img convert', peer],
    unit: 's',
    target: { atMost: 1.5 }
  })
}

interface Image {
  readonly target: string
  readonly secret: string
  readonly sizeBytes: number
  makeEncrypted(): void
}

function imageIn(directory: string, sizeBytes: number): Image {
  const target = join(directory, 'restored.qcow2')
  const secret = join(directory, 'passphrase')
  writeFileSync(secret, PASSPHRASE, { mode: 0o600 })
  const create = ['create', '-q', '-f', 'qcow2', '--object', secretObject(secret), '-o', luks, target]
  return {
    ...{ target, secret, sizeBytes },
    makeEncrypted: () => {
      // QEMU times its hash first and gives up when the clock of its CPU time did not move meanwhile.
      for (let triesLeft = 10; ; triesLeft--)
        try {
          execFileSync('qemu-img', [...create, String(sizeBytes)], { stdio: 'ignore' })
          return
        } catch (error) {
          if (triesLeft === 0) throw error
        }
    }
  }
}

function secretObject(file: string): string {
  return `secret,id=passphrase,file=${file}`
}

async function restorePlain(vault: BenchVault, { target, sizeBytes }: Image): Promise<void> {
  await vault.restore(await createQcow2File(target, sizeBytes))
}

async function restoreEncrypted(vault: BenchVault, { target: file }: Image): Promise<void> {
  await using server = await startQemuNbd({
    ...{ file, format: 'qcow2', passphrase: PASSPHRASE, writable: true },
    ...wait
  })
  const { socketPath, exportName } = server
  await vault.restore(await openNbdTarget({ socketPath, exportName, ...wait }))
}

function convert(source: string, { target, secret }: Image, encrypted: boolean): void {
  const into = `driver=qcow2,file.filename=${target},encrypt.format=luks,encrypt.key-secret=passphrase`
  const options = encrypted
    ? ['--object', secretObject(secret), '-n', '--target-image-opts', source, into]
    : ['-O', 'qcow2', source, target]
  execFileSync('qemu-img', ['convert', ...options])
}
