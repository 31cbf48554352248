// Figure: decoding the bulk statistics of 1,000 domains, and how long that keeps the event loop.

import assert from 'node:assert/strict'
import { connectGetAllDomainStats, decodeAll } from 'node-libvirt'
import { decodeGeneric, statisticsShapes } from '../generic-decoder.ts'
import { type Figure, interleave, measureRow, ratioRow, timeMs } from '../harness.ts'
import { blocksOf, firstDecodesMs } from '../support/decode-block.ts'
import { parametersPerDomain, statisticsReply } from '../support/statistics-reply.ts'

const DOMAINS = 1_000

export const figure: Figure = {
  id: 'statistics-decode',
  title: `Decoding the statistics of 1,000 domains with ${parametersPerDomain} parameters each`,
  run: async ({ quick }) => {
    const reply = statisticsReply(DOMAINS)
    const ours = () => decodeAll(connectGetAllDomainStats.result, reply)
    const generic = () => decodeGeneric(statisticsShapes, 'reply', reply)
    assert.deepEqual(plain(ours().statistics), plain((generic() as { statistics: unknown[] }).statistics))
    const decoding = await interleave({
      ours: () => timeMs(ours),
      peer: () => timeMs(generic),
      pairs: quick ? 20 : 200,
      warmUps: 30
    })
    const replies = quick ? 20 : 300
    const blocks = await blocksOf({ reply, replies })
    const first = await firstDecodesMs({ reply, times: quick ? 3 : 15 })
    const target = { atMost: 20 }
    return {
      rows: [
        ratioRow({
          what: 'faster than a generic decoder',
          first: ['generic', decoding.peer],
          second: ['node-libvirt', decoding.ours],
          unit: 'ms',
          target: { atLeast: 4 }
        }),
        measureRow({ what: 'event loop blocked by a reply', samples: blocks.perReplyMs, unit: 'ms', target }),
        measureRow({ what: 'the longest of them', samples: [blocks.longestMs], unit: 'ms', target }),
        measureRow({
          what: 'CPU time of the first decode in a fresh process',
          samples: first,
          unit: 'ms',
          target
        })
      ],
      how: [
        `The reply has ${DOMAINS} domains and ${(reply.length / 1e6).toFixed(1)} MB, with the names and types that QEMU's driver sends for a guest with two CPUs, a disk and an interface. The generic decoder (\`bench/generic-decoder.ts\`) interprets a table of types; both results are checked to be equal.`,
        `The block is the longest pause between two turns of the event loop while one of ${replies} replies, one after another, came through a unix socket and was decoded by a connection; garbage collection, the first replies (not yet compiled code) and whatever else the machine did are included.`
      ]
    }
  }
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
