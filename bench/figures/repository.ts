// Figure: our repository against restic's: the same raw image in full, and again after 1 % of it changed.

import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { type Figure, interleave, type Row, type RunOptions, ratioRow, timeMs } from '../harness.ts'
import { bytesBelow, makeRoom, openVault } from '../support/backup-engine.ts'
import { type MixedDisk, makeMixedDisk, mebibyte, mixedContent } from '../support/mixed-disk.ts'
import { forgetChanges, timeSource, trackChanges, writeChanges } from '../support/nbd-disk.ts'
import { requireTools } from '../support/tools.ts'

const SIZE_BYTES = 2048 * mebibyte
const CHANGED_SHARE = 0.01
const CHANGE_BYTES = 65_536
const PAIRS = { full: 10, incremental: 10, compare: 6 }

export const figure: Figure = {
  id: 'repository',
  title: 'Our repository and that of restic',
  run: async ({ quick, log }: RunOptions) => {
    requireTools(['restic'])
    using disk = makeMixedDisk(quick ? SIZE_BYTES / 8 : SIZE_BYTES)
    trackChanges(disk.files.qcow2)
    using room = makeRoom('memory')
    const pairs = quick ? { full: 2, incremental: 2, compare: 2 } : PAIRS
    log('full')
    const full = await fullRows(disk, room.path, pairs.full)
    log('incremental, changes known')
    const known = await incrementalRows(disk, room.path, 'changed', pairs.incremental)
    log('incremental, compared')
    const compared = await incrementalRows(disk, room.path, 'compare', pairs.compare)
    return {
      rows: [...full, ...known, ...compared],
      how: [
        `The same ${disk.sizeBytes / mebibyte} MiB (${mixedContent}) to a repository in memory: restic reads a raw file (\`backup --no-cache\`, its defaults, a process a run), ours reads it over NBD from \`qemu-nbd\` (connecting included) in the environment of the agent's unit, with its manifest signed and committed. A full backup goes to a new repository each time.`,
        `Incremental: ${CHANGED_SHARE * 100} % of the disk in pieces of ${CHANGE_BYTES / 1024} KiB anywhere gets new random content before each pair, in the raw file and in a qcow2 with a bitmap. With the bitmap ours reads what changed; where no bitmap is valid it compares hashes and reads everything. restic has to read everything in either case, since the file's time has changed.`
      ]
    }
  }
}

async function fullRows(disk: MixedDisk, parent: string, pairs: number): Promise<Row[]> {
  const stored = { ours: [] as number[], peer: [] as number[] }
  const { ours, peer } = await interleave({
    ours: async () => {
      await using vault = await openVault(parent)
      const ms = await timeSource({ file: disk.files.raw, format: 'raw' }, (source) =>
        vault.backUp(source, 'all')
      )
      stored.ours.push(bytesBelow(vault.directory))
      return ms
    },
    peer: async () => {
      using repository = openRestic(parent)
      const ms = await timeMs(() => repository.backUp(disk.files.raw))
      stored.peer.push(bytesBelow(repository.path))
      return ms
    },
    ...{ pairs, warmUps: 0 }
  })
  return rowsOf('full', 0.8, { ours, peer }, stored)
}

async function incrementalRows(
  disk: MixedDisk,
  parent: string,
  tracking: 'changed' | 'compare',
  pairs: number
): Promise<Row[]> {
  await using vault = await openVault(parent)
  using repository = openRestic(parent)
  repository.backUp(disk.files.raw)
  const changed = tracking === 'changed'
  const image = { file: disk.files.qcow2, format: 'qcow2', changed } as const
  await timeSource({ ...image, changed: false }, (source) => vault.backUp(source, 'all'))
  const stored = { ours: [] as number[], peer: [] as number[] }
  let turn = 0
  // Both of a pair store the same changes, whoever is first.
  const before = async () => {
    if (turn++ % 2 === 0) await change(disk)
  }
  const { ours, peer } = await interleave({
    ours: async () => {
      await before()
      let storedBytes = 0
      const ms = await timeSource(image, async (source) => {
        storedBytes = (await vault.backUp(source, tracking)).storedBytes
      })
      stored.ours.push(storedBytes)
      return ms
    },
    peer: async () => {
      await before()
      const earlier = bytesBelow(repository.path)
      const ms = await timeMs(() => repository.backUp(disk.files.raw))
      stored.peer.push(bytesBelow(repository.path) - earlier)
      return ms
    },
    ...{ pairs, warmUps: 0 }
  })
  const what = changed ? '1 % changed, known from the bitmap' : '1 % changed, found by comparing'
  return rowsOf(what, changed ? 0.1 : undefined, { ours, peer }, stored)
}

/** New content at random places, the same in both files; the bitmap marks these and no others. */
async function change({ files, sizeBytes }: MixedDisk): Promise<void> {
  const pieces = sizeBytes / CHANGE_BYTES
  const changes = Array.from({ length: Math.round(pieces * CHANGED_SHARE) }, () => ({
    offset: Math.floor(Math.random() * pieces) * CHANGE_BYTES,
    content: randomBytes(CHANGE_BYTES)
  }))
  const raw = openSync(files.raw, 'r+')
  for (const { offset, content } of changes) writeSync(raw, content, 0, content.length, offset)
  closeSync(raw)
  forgetChanges(files.qcow2)
  await writeChanges(files.qcow2, changes)
}

interface Samples {
  readonly ours: readonly number[]
  readonly peer: readonly number[]
}

function rowsOf(what: string, atMost: number | undefined, times: Samples, stored: Samples): Row[] {
  const scaled = (samples: readonly number[], unit: number) => samples.map((sample) => sample / unit)
  return [
    ratioRow({
      what: `time, ${what}`,
      first: ['ours', scaled(times.ours, 1_000)],
      second: ['restic', scaled(times.peer, 1_000)],
      unit: 's',
      ...(atMost !== undefined && { target: { atMost } })
    }),
    ratioRow({
      what: `bytes stored, ${what}`,
      first: ['ours', scaled(stored.ours, mebibyte)],
      second: ['restic', scaled(stored.peer, mebibyte)],
      unit: 'MiB'
    })
  ]
}

function openRestic(parent: string) {
  const room = mkdtempSync(join(parent, 'restic-'))
  const restic = (...words: string[]) =>
    execFileSync('restic', ['-q', '-r', room, '--no-cache', ...words], {
      env: { ...process.env, RESTIC_PASSWORD: 'bench' },
      stdio: ['ignore', 'ignore', 'inherit']
    })
  restic('init')
  return {
    path: room,
    backUp: (file: string) => restic('backup', file),
    [Symbol.dispose]: () => rmSync(room, { recursive: true, force: true })
  }
}
