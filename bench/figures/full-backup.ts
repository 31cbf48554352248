// Figure: a full backup of a running VM's disk to a directory, by hostlet's whole path and by virtnbdbackup.

import { execFile, execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import {
  type Figure,
  interleave,
  type Race,
  type Row,
  type RunOptions,
  ratioRow,
  timeMs
} from '../harness.ts'
import { bytesBelow, makeRoom, openVault, type Place } from '../support/backup-engine.ts'
import { type BackupVm, startBackupVm } from '../support/backup-vm.ts'
import { makeMixedDisk, mebibyte, mixedContent } from '../support/mixed-disk.ts'
import { requireTools } from '../support/tools.ts'

const run = promisify(execFile)
const SIZE_BYTES = 2048 * mebibyte
const wait = { signal: new AbortController().signal }

interface Variant {
  readonly what: string
  readonly options: readonly string[]
  readonly place: Place
  readonly atMost?: number
  readonly pairs: number
}

const variants: readonly Variant[] = [
  { what: 'against virtnbdbackup -z', options: ['-z'], place: 'memory', atMost: 0.6, pairs: 10 },
  { what: 'against virtnbdbackup', options: [], place: 'memory', atMost: 1.1, pairs: 10 },
  { what: 'the same, -z, to a disk', options: ['-z'], place: 'disk', pairs: 2 },
  { what: 'the same, without -z, to a disk', options: [], place: 'disk', pairs: 2 }
]

export const figure: Figure = {
  id: 'full-backup',
  title: 'Full backup of a running VM to a directory',
  run: async ({ quick, log }: RunOptions) => {
    requireTools(['virtnbdbackup'])
    using disk = makeMixedDisk(quick ? SIZE_BYTES / 8 : SIZE_BYTES)
    await using vm = await startBackupVm(disk)
    const rows: Row[] = []
    for (const variant of variants) {
      log(variant.what)
      rows.push(...(await race(vm, variant, quick ? 2 : variant.pairs)))
    }
    return {
      rows,
      how: [
        `A running VM (TCG) on a libvirtd of the bench with a data disk of ${disk.sizeBytes / mebibyte} MiB (${mixedContent}; qcow2 in memory), of which only that disk is backed up. hostlet: begins the job with a checkpoint, reads it over NBD, hashes, compresses (zstd 1), encrypts and stores everything, ends the job, and commits the signed manifest, in the environment of the agent's unit. virtnbdbackup: \`-l full -i vdb\`, a process a run, which encrypts nothing and flushes nothing; \`-z\` is LZ4.`,
        'The directory is in memory where nothing else is said, so that the figure is not that of the disk of this machine (some 130 MB/s here, which makes the time that of the bytes stored). hostlet flushes every pack, and the directory, before it says that it is done.'
      ]
    }
  }
}

async function race(vm: BackupVm, { what, options, place, atMost }: Variant, pairs: number): Promise<Row[]> {
  using room = makeRoom(place)
  const stored = { ours: [] as number[], peer: [] as number[] }
  const times: Pick<Race, 'pairs' | 'warmUps'> = { pairs, warmUps: place === 'memory' ? 1 : 0 }
  const { ours, peer } = await interleave({
    ours: () => byHostlet(vm, room.path, stored.ours),
    peer: () => byPeer(vm, room.path, options, stored.peer),
    ...times
  })
  const seconds = (samples: readonly number[]) => samples.map((ms) => ms / 1_000)
  const mebibytes = (samples: readonly number[]) => samples.slice(-pairs).map((bytes) => bytes / mebibyte)
  return [
    ratioRow({
      what: `time, ${what}`,
      first: ['hostlet', seconds(ours)],
      second: ['virtnbdbackup', seconds(peer)],
      unit: 's',
      ...(atMost !== undefined && { target: { atMost } })
    }),
    ...(place === 'disk'
      ? []
      : [
          ratioRow({
            what: `bytes stored, ${what}`,
            first: ['hostlet', mebibytes(stored.ours)],
            second: ['virtnbdbackup', mebibytes(stored.peer)],
            unit: 'MiB'
          })
        ])
  ]
}

async function byHostlet(vm: BackupVm, parent: string, stored: number[]): Promise<number> {
  execFileSync('sync')
  await using vault = await openVault(parent)
  const ms = await timeMs(async () => {
    const request = {
      snapshot: randomUUID(),
      roles: ['data'] as const,
      checkpoint: 'bench',
      since: null
    }
    const job = await vm.hypervisor.beginBackup(vm.name, request, wait)
    try {
      const source = await job.disks[0]?.open(wait)
      if (source === undefined) throw new Error('the job has no disk')
      await vault.backUp(source, 'all', () => job.end({ ...wait, keepCheckpoint: false }))
      await source.close()
    } finally {
      await job.end({ ...wait, keepCheckpoint: false })
    }
  })
  stored.push(bytesBelow(vault.directory))
  return ms
}

async function byPeer(
  { name, libvirtd, sharedDirectory, dataTarget }: BackupVm,
  parent: string,
  options: readonly string[],
  stored: number[]
): Promise<number> {
  execFileSync('sync')
  const directory = mkdtempSync(join(parent, 'virtnbdbackup-'))
  const ms = await timeMs(() =>
    run('virtnbdbackup', [
      ...['-U', `${libvirtd.uri}?socket=${libvirtd.socket}`, '-d', name, '-l', 'full', '-i', dataTarget],
      ...['-n', '-S', sharedDirectory, '-f', join(sharedDirectory, 'nbd.socket')],
      ...['-o', directory, ...options]
    ])
  )
  stored.push(bytesBelow(directory))
  rmSync(directory, { recursive: true })
  return ms
}
