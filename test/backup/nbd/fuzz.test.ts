/** Fuzz of what an NBD server sends: damaged and random bytes end in answers that hold, or in E_PROTOCOL, never elsewhere in memory. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Coverage } from '../../../src/backup/nbd/coverage.ts'
import { Feed } from '../../../src/backup/nbd/feed.ts'
import { type ExportInfo, handshake } from '../../../src/backup/nbd/handshake.ts'
import { chunksPerReplyMax } from '../../../src/backup/nbd/protocol.ts'
import { replies } from '../../../src/backup/nbd/replies.ts'
import { type Request, unanswered } from '../../../src/backup/nbd/requests.ts'
import { HostletError } from '../../../src/errors.ts'
import { blockSizes, exportInformation, greeting, optionReply, u32, wire } from './scripted-server.ts'

/** Inputs of each property; more by hand. */
const runs = Number(process.env.NBD_FUZZ_RUNS ?? 2_000)
const seed = Number(process.env.FUZZ_SEED ?? Date.now() & 0x7fff_ffff)
const options = { seed, numRuns: runs }

const contexts = new Map([
  [5, 'base:allocation'],
  [9, 'qemu:dirty-bitmap:b']
])
const length = 2_048
const offset = 4_096
const guardBytes = 64

interface Outcome {
  readonly finished: Map<number, Request>
  readonly failed: boolean
  readonly memory: Buffer
}

/** Two reads, one of them abandoned, a question of status and a write, all unanswered. */
function questions(memory: Buffer): Map<number, Request> {
  const read = (index: number, abandoned: boolean): Request => ({
    ...unanswered,
    ...{ name: 'read', type: 0, kind: 'read', offset, length, abandoned, coverage: new Coverage(length) },
    target: memory.subarray(guardBytes + index * (length + guardBytes)).subarray(0, length)
  })
  const status = { name: 'status', type: 7, kind: 'status', offset: 0, length: 65_536 } as const
  return new Map<number, Request>([
    [1, read(0, false)],
    [2, read(1, true)],
    [3, { ...unanswered, ...status, answers: new Map() }],
    [4, { ...unanswered, name: 'write', type: 1, kind: 'plain', offset, length, payload: undefined }]
  ])
}

/** Feeds in pieces of the given sizes, in turn. True when the parser threw; in the handshake a server may also refuse. */
function feedAll(feed: Feed, bytes: Uint8Array, cuts: readonly number[], mayRefuse = false): boolean {
  try {
    for (let at = 0, turn = 0; at < bytes.length && !feed.ended; turn++) {
      const space = feed.space()
      assert.ok(space.length > 0, 'asks for something')
      const taken = Math.min(space.length, bytes.length - at, cuts[turn % cuts.length] ?? 1)
      space.set(bytes.subarray(at, at + taken))
      feed.advance(taken)
      at += taken
    }
    return false
  } catch (error) {
    if (!(error instanceof HostletError)) throw error
    assert.ok(mayRefuse || error.code === 'E_PROTOCOL', error.code)
    return true
  }
}

function answered(bytes: Uint8Array, cuts: readonly number[]): Outcome {
  const memory = Buffer.alloc(guardBytes + 2 * (length + guardBytes), 0x55)
  const pending = questions(memory)
  const finished = new Map<number, Request>()
  const feed = new Feed(
    replies(
      { structuredReplies: true, contexts },
      {
        find: (cookie) => pending.get(cookie),
        finished: (cookie, request) => {
          pending.delete(cookie)
          finished.set(cookie, request)
        }
      }
    )
  )
  return { failed: feedAll(feed, bytes, cuts), finished, memory }
}

/** What is true of any bytes: whole answers only, guards untouched, nothing in the memory of the abandoned read. */
function holds({ finished, memory }: Outcome): void {
  for (const request of finished.values()) {
    assert.ok(request.chunks <= chunksPerReplyMax)
    if (request.fault !== undefined) continue
    if (request.kind === 'read') assert.ok(request.coverage.complete)
    if (request.kind === 'status')
      for (const answer of request.answers.values()) {
        const covered = answer.reduce((sum, run) => sum + run.length, 0)
        assert.ok(covered > 0 && covered <= request.length)
      }
  }
  const wanted = memory.subarray(guardBytes, guardBytes + length)
  wanted.fill(0x55)
  assert.ok(memory.every((byte) => byte === 0x55))
}

const cookie = fc.constantFrom(1n, 2n, 3n, 4n)
const contentAt = fc.oneof(fc.constantFrom(offset, offset + 1_024), fc.integer({ min: 4_000, max: 6_300 }))
const contentLength = fc.oneof(fc.constantFrom(1_024, 2_048), fc.integer({ min: 0, max: 2_100 }))
const run = fc.tuple(fc.oneof(fc.constantFrom(512, 65_536), fc.nat({ max: 0x7fff_ffff })), fc.nat({ max: 5 }))
const answer = fc.oneof(
  fc
    .tuple(cookie, contentAt, contentLength, fc.boolean())
    .map(([id, at, bytes, done]) => wire.data(id, at, Buffer.alloc(bytes, 0xaa), done)),
  fc
    .tuple(cookie, contentAt, contentLength, fc.boolean())
    .map(([id, at, bytes, done]) => wire.hole(id, at, bytes, done)),
  fc
    .tuple(cookie, fc.constantFrom(5, 9, 6), fc.array(run, { maxLength: 5 }), fc.boolean())
    .map(([id, context, list, done]) => wire.status(id, context, list, done)),
  fc
    .tuple(cookie, fc.nat({ max: 120 }), fc.string({ maxLength: 20, unit: 'grapheme-ascii' }), fc.boolean())
    .map(([id, error, text, done]) => wire.error(id, error, text, done)),
  cookie.map((id) => wire.none(id)),
  fc.tuple(cookie, fc.nat({ max: 30 })).map(([id, error]) => wire.simple(id, error))
)
const whole = Buffer.concat([
  wire.hole(1n, offset + 512, 512),
  wire.status(3n, 9, [[65_536, 1]]),
  wire.data(2n, offset, Buffer.alloc(length, 0xaa), true),
  wire.data(1n, offset + 1_024, Buffer.alloc(1_024, 0xaa)),
  wire.error(4n, 28, 'full'),
  wire.status(
    3n,
    5,
    [
      [512, 3],
      [65_024, 0]
    ],
    true
  ),
  wire.data(1n, offset, Buffer.alloc(512, 0xaa)),
  wire.none(1n)
])
const cuts = fc.array(fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 4_096 })), {
  minLength: 1,
  maxLength: 12
})
const damage = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 })

function damaged(bytes: Buffer, changes: readonly (readonly [number, number])[]): Buffer {
  const copy = Buffer.from(bytes)
  for (const [at, to] of changes) copy[at % copy.length] = to
  return copy
}

describe(`NBD replies under fuzz (FUZZ_SEED=${seed}, ${runs} inputs a property, NBD_FUZZ_RUNS for more)`, () => {
  it('gives whole answers, wherever the bytes are cut', () => {
    fc.assert(
      fc.property(cuts, (sizes) => {
        const outcome = answered(whole, sizes)
        assert.equal(outcome.failed, false)
        assert.deepEqual([...outcome.finished.keys()], [2, 4, 3, 1])
        const expected = Buffer.concat([
          Buffer.alloc(512, 0xaa),
          Buffer.alloc(512),
          Buffer.alloc(1_024, 0xaa)
        ])
        assert.ok(outcome.memory.subarray(guardBytes, guardBytes + length).equals(expected))
        holds(outcome)
      }),
      options
    )
  })

  it('survives answers in any order and of any content', () => {
    fc.assert(
      fc.property(fc.array(answer, { maxLength: 12 }), cuts, (list, sizes) => {
        holds(answered(Buffer.concat(list), sizes))
      }),
      options
    )
  })

  it('survives damage, and makes the same of it however it is cut', () => {
    fc.assert(
      fc.property(damage, cuts, (changes, sizes) => {
        const bytes = damaged(whole, changes)
        const outcome = answered(bytes, sizes)
        const again = answered(bytes, [4_096])
        assert.equal(outcome.failed, again.failed)
        assert.deepEqual([...outcome.finished.keys()], [...again.finished.keys()])
        holds(outcome)
      }),
      options
    )
  })

  it('survives noise', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), cuts, (noise, sizes) => holds(answered(noise, sizes))),
      options
    )
  })
})

const context = (id: number, name: string) => optionReply(10, 4, Buffer.concat([u32(id), Buffer.from(name)]))
const agreement = Buffer.concat([
  greeting,
  optionReply(8, 1),
  ...[context(5, 'base:allocation'), context(9, 'qemu:dirty-bitmap:b'), optionReply(10, 1)],
  ...[
    optionReply(7, 3, exportInformation(1 << 30, 0b101)),
    optionReply(7, 3, blockSizes(512, 4_096, 32 << 20))
  ],
  optionReply(7, 1)
])

describe(`NBD handshake under fuzz (FUZZ_SEED=${seed}, ${runs} inputs a property)`, () => {
  it('agrees, refuses or waits for more, and believes nothing that cannot be', () => {
    fc.assert(
      fc.property(fc.option(damage), cuts, (changes, sizes) => {
        let facts: ExportInfo | undefined
        const wanted = { exportName: '', contexts: [...contexts.values()] }
        const feed = new Feed(
          (function* talk() {
            facts = yield* handshake(wanted, () => undefined)
          })()
        )
        feedAll(feed, changes === null ? agreement : damaged(agreement, changes), sizes, true)
        if (changes === null) assert.equal(facts?.contexts.size, 2)
        if (facts === undefined) return
        assert.ok(Number.isSafeInteger(facts.sizeBytes) && facts.sizeBytes >= 0)
        assert.ok(facts.blockBytesLeast >= 1 && facts.payloadBytesMax <= 32 << 20)
        assert.ok([...facts.contexts.values()].every((name) => wanted.contexts.includes(name)))
      }),
      options
    )
  })
})
