// Figure: decoding the bulk statistics of 1,000 domains, and how long that keeps the event loop.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { connect, connectGetAllDomainStats, decodeAll } from 'node-libvirt'
import { decodeGeneric, statisticsShapes } from '../generic-decoder.ts'
import { type Figure, interleave, measureRow, type Row, ratioRow, timeMs } from '../harness.ts'
import { longestTurnMs, statisticsCall } from '../support/event-loop.ts'
import { parametersPerDomain, statisticsReply } from '../support/statistics-reply.ts'
import { startStatisticsServer } from '../support/statistics-server.ts'

const run = promisify(execFile)
const DOMAINS = 1_000
const blockTarget = { atMost: 20 }

export const figure: Figure = {
  id: 'statistics-decode',
  title: `Decoding the statistics of 1,000 domains with ${parametersPerDomain} parameters each`,
  run: async ({ quick }) => {
    const reply = statisticsReply(DOMAINS)
    const replies = quick ? 20 : 300
    return {
      rows: [
        await decodeRow(reply, quick ? 20 : 200),
        ...(await blockRows({ reply, replies, processes: quick ? 3 : 15 }))
      ],
      how: [
        `The reply has ${DOMAINS} domains and ${(reply.length / 1e6).toFixed(1)} MB, with the names and types that QEMU's driver sends for a guest with two CPUs, a disk and an interface. The generic decoder (\`bench/generic-decoder.ts\`) interprets a table of types; both results are checked to be equal.`,
        `The event loop: the CPU time of the main thread in the longest turn of the loop while a connection gets such a reply through a unix socket and decodes it, garbage collection included; ${replies} replies one after another in one process, and the first reply of processes that have compiled nothing yet.`
      ]
    }
  }
}

async function decodeRow(reply: Buffer, pairs: number): Promise<Row> {
  const ours = () => decodeAll(connectGetAllDomainStats.result, reply)
  const generic = () => decodeGeneric(statisticsShapes, 'reply', reply)
  assert.deepEqual(plain(ours().statistics), plain((generic() as { statistics: unknown[] }).statistics))
  const race = { ours: () => timeMs(ours), peer: () => timeMs(generic) }
  const decoding = await interleave({ ...race, pairs, warmUps: 30 })
  return ratioRow({
    what: 'faster than a generic decoder',
    first: ['generic', decoding.peer],
    second: ['node-libvirt', decoding.ours],
    unit: 'ms',
    target: { atLeast: 4 }
  })
}

interface Blocks {
  readonly reply: Buffer
  readonly replies: number
  readonly processes: number
}

async function blockRows({ reply, replies, processes }: Blocks): Promise<Row[]> {
  using server = await startStatisticsServer(reply)
  await using connection = await connect(server.uri, { keepAlive: false })
  const turns: number[] = []
  for (let count = 0; count < replies; count++)
    turns.push(await longestTurnMs(() => statisticsCall(connection)))
  const first: number[] = []
  for (let count = 0; count < processes; count++) first.push(await firstReply(server.uri))
  const row = (what: string, samples: number[]) =>
    measureRow({ what, samples, unit: 'ms', target: blockTarget })
  return [
    row('event loop kept by a reply', turns),
    row('the longest of them', [Math.max(...turns)]),
    row('event loop kept by the first reply of a fresh process', first)
  ]
}

async function firstReply(uri: string): Promise<number> {
  const program = join(import.meta.dirname, '../support/first-reply.ts')
  const { stdout } = await run(process.execPath, [program, uri])
  return Number(stdout)
}

/** The same values from both: the generic decoder keeps the type of a parameter and has all 64-bit integers as bigints. */
function plain(statistics: readonly unknown[]): unknown[] {
  return JSON.parse(
    JSON.stringify(statistics, (key, value) => {
      const bare = key === 'value' && typeof value === 'object' && value !== null ? value.value : value
      return typeof bare === 'bigint' ? Number(bare) : bare
    })
  )
}
