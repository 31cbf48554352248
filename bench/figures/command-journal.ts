// Figure: commands that a dispatcher takes a second, each on the disk before it is acknowledged, on a slow disk and on this one's.

import { execFile } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Figure, interleave, measureRow, NotRun, type Row, ratioRow } from '../harness.ts'
import type { JournalLoad } from '../support/journal-load.ts'

const run = promisify(execFile)
const delayMs = 10
const program = join(import.meta.dirname, '../support/journal-load.ts')

export const figure: Figure = {
  id: 'command-journal',
  title: 'The durable journal of commands',
  run: async ({ quick }) => {
    await run('strace', ['--version']).catch(() => {
      throw new NotRun('strace is not installed: it delays the syncs')
    })
    const pairs = quick ? 2 : 10
    const sizes = quick ? { group: 500, single: 30 } : { group: 4_000, single: 200 }
    const slow = await race(sizes, pairs, true)
    const plain = await race({ group: sizes.group, single: sizes.group }, pairs, false)
    return {
      rows: [...rows(`${delayMs} ms added to each sync`, slow, true), ...rows('this disk', plain, false)],
      how: [
        `A process with a dispatcher on a real journal in \`${tmpdir()}\` and a verb of one step that does nothing: signed commands of as many VMs, 60 under way at a time, carried out meanwhile (64 at a time). Accepted counts acknowledgements, each of which is on the disk. The delay is strace's, at the entry of each fsync and fdatasync.`,
        `Single commits are how it was before: the same dispatcher, but every commit waits for the disk on the spot (\`synchronous = FULL\`).`,
        'The event loop: 99th percentile of the delay of its timers, from the first command to the last result.'
      ]
    }
  }
}

interface Raced {
  readonly group: readonly JournalLoad[]
  readonly single: readonly JournalLoad[]
}

async function race(
  sizes: { readonly group: number; readonly single: number },
  pairs: number,
  isSlow: boolean
): Promise<Raced> {
  const loads = { group: [] as JournalLoad[], single: [] as JournalLoad[] }
  const once = (way: 'group' | 'single') => async () => {
    loads[way].push(await load(way, sizes[way], isSlow))
    return 0
  }
  await interleave({ ours: once('group'), peer: once('single'), pairs, warmUps: 0 })
  return loads
}

async function load(way: string, commands: number, isSlow: boolean): Promise<JournalLoad> {
  const node = [process.execPath, program, way, String(commands), tmpdir()]
  const inject = [
    '-e',
    'trace=fsync,fdatasync',
    '-e',
    `inject=fsync,fdatasync:delay_enter=${delayMs * 1_000}`
  ]
  const strace = ['strace', '-f', '--seccomp-bpf', '-qq', '-o', '/dev/null', ...inject]
  const [file = '', ...rest] = isSlow ? [...strace, ...node] : node
  const { stdout } = await run(file, rest)
  return JSON.parse(stdout)
}

function rows(where: string, { group, single }: Raced, hasTarget: boolean): Row[] {
  const of = (loads: readonly JournalLoad[], key: keyof JournalLoad) => loads.map((each) => each[key])
  return [
    measureRow({
      what: `accepted, ${where}`,
      samples: of(group, 'acceptedPerSecond'),
      unit: '/s',
      ...(hasTarget && { target: { atLeast: 1_000 } })
    }),
    ratioRow({
      what: `accepted, against single commits, ${where}`,
      first: ['together', of(group, 'acceptedPerSecond')],
      second: ['single', of(single, 'acceptedPerSecond')],
      unit: '/s'
    }),
    measureRow({
      what: `event loop, p99, ${where}`,
      samples: of(group, 'delayP99Ms'),
      unit: 'ms',
      ...(hasTarget && { target: { atMost: 20 } })
    }),
    measureRow({
      what: `event loop with single commits, p99, ${where}`,
      samples: of(single, 'delayP99Ms'),
      unit: 'ms'
    })
  ]
}
