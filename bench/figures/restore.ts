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
  { what: 'plain', encrypted: false, place: 'memory', pairs: 12 },
  { what: 'LUKS', encrypted: true, place: 'memory', pairs: 12 },
  { what: 'plain, from disk to disk', encrypted: false, place: 'disk', pairs: 4 },
  { what: 'LUKS, from disk to disk', encrypted: true, place: 'disk', pairs: 4 }
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
        `A disk of ${disk.sizeBytes / mebibyte} MiB (${mixedContent}). Ours: opens the vault, checks the manifest's signature, reads, authenticates, decrypts, decompresses, checks each block's address, and writes a qcow2; in the environment of the agent's unit. \`qemu-img convert\` copies the qcow2 that was backed up into another. For LUKS (inside qcow2) ours makes the image with \`qemu-img create\` and writes it through \`qemu-nbd\`, its start included; \`qemu-img convert\` makes and fills one.`,
        'Repository, image and target are in memory where nothing else is said. On a disk, source and repository are in the page cache; ours returns when the restored disk is flushed, and so the time of `qemu-img convert` includes a `sync` of its file there.'
      ]
    }
  }
}

async function race(disk: MixedDisk, { what, encrypted, place, pairs }: Variant, count: number) {
  using room = makeRoom(place)
  await using vault = await openVault(room.path)
  await timeSource({ file: disk.files.qcow2, format: 'qcow2' }, (source) => vault.backUp(source, 'all'))
  const target = join(room.path, 'restored.qcow2')
  const secret = join(room.path, 'passphrase')
  writeFileSync(secret, PASSPHRASE, { mode: 0o600 })
  const contender = (work: () => unknown) => async () => {
    execFileSync('sync')
    const ms = await timeMs(work)
    rmSync(target)
    return ms / 1_000
  }
  const restore = encrypted ? restoreEncrypted : restorePlain
  const { ours, peer } = await interleave({
    ours: contender(() => restore(vault, { target, secret, sizeBytes: disk.sizeBytes })),
    peer: contender(() => {
      const options = encrypted ? ['--object', `secret,id=passphrase,file=${secret}`, '-o', luks] : []
      execFileSync('qemu-img', ['convert', '-O', 'qcow2', ...options, disk.files.qcow2, target])
      if (place === 'disk') execFileSync('sync', [target])
    }),
    ...{ pairs: Math.min(count, pairs), warmUps: place === 'memory' ? 1 : 0 }
  })
  return ratioRow({
    what,
    first: ['ours', ours],
    second: ['qemu-img convert', peer],
    unit: 's',
    ...(place === 'memory' && { target: { atMost: 1.5 } })
  })
}

interface Restored {
  readonly target: string
  readonly secret: string
  readonly sizeBytes: number
}

async function restorePlain(vault: BenchVault, { target, sizeBytes }: Restored): Promise<void> {
  await vault.restore(await createQcow2File(target, sizeBytes))
}

async function restoreEncrypted(vault: BenchVault, { target, secret, sizeBytes }: Restored): Promise<void> {
  const object = ['--object', `secret,id=passphrase,file=${secret}`]
  execFileSync('qemu-img', [
    ...['create', '-q', '-f', 'qcow2', ...object, '-o', luks, target, String(sizeBytes)]
  ])
  const image = { file: target, format: 'qcow2', passphrase: PASSPHRASE, writable: true } as const
  await using server = await startQemuNbd({ ...image, ...wait })
  const { socketPath, exportName } = server
  await vault.restore(await openNbdTarget({ socketPath, exportName, ...wait }))
}
