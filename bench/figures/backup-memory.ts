// Figure: by how much the memory of a process grows while it backs up and restores a large disk.

import { fork } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Figure, measureRow, type RunOptions } from '../harness.ts'
import type { BackupMemory } from '../support/backup-memory.ts'
import { unitEnvironment } from '../support/unit-environment.ts'

const SIZE_BYTES = 64 * 1024 ** 3
const TURNS = 2
const program = join(import.meta.dirname, '../support/backup-memory.ts')

export const figure: Figure = {
  id: 'backup-memory',
  title: 'Memory of a backup and of a restore',
  run: async ({ quick, log }: RunOptions) => {
    const results: BackupMemory[] = []
    for (let turn = 0; turn < (quick ? 1 : TURNS); turn++) {
      results.push(await measure(quick ? SIZE_BYTES / 16 : SIZE_BYTES))
      log(JSON.stringify(results.at(-1)))
    }
    const row = (what: string, samples: number[]) =>
      measureRow({ what, samples, unit: 'MiB', target: { atMost: 128 } })
    return {
      rows: [
        row(
          'full backup, above rest',
          results.map(({ backUpMib }) => backUpMib)
        ),
        row(
          'restore, above rest',
          results.map(({ restoreMib }) => restoreMib)
        )
      ],
      how: [
        `A disk of ${SIZE_BYTES / 1024 ** 3} GiB, half of it holes, whose content is computed: 48 MiB of mixed data again and again, every sixteenth block like no other. It is backed up to a directory and restored to a target that throws everything away, in a process of its own with the environment of the agent's unit. Rest is VmRSS after 5 quiet seconds before the backup, with everything loaded; the figure is VmHWM, the most that the kernel saw, less that.`
      ]
    }
  }
}

function measure(sizeBytes: number): Promise<BackupMemory> {
  const { promise, resolve, reject } = Promise.withResolvers<BackupMemory>()
  const env = { ...process.env, ...unitEnvironment(join(tmpdir(), 'hostlet-bench-cache')) }
  const child = fork(program, [String(sizeBytes)], { env })
  child.once('message', (result) => resolve(result as BackupMemory))
  child.once('error', reject)
  child.once('exit', (code, signal) => reject(new Error(`it ended with ${signal ?? code} and no result`)))
  return promise
}
