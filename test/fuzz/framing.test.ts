/** Fuzz of framing: any cut gives the same frames, and damage ends in E_PROTOCOL or in frames within bounds. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { ConnectionError } from '../../src/node-libvirt/errors.ts'
import { encodeHeader, type Frame, FrameParser } from '../../src/node-libvirt/framing.ts'

const RUNS = 500
const FRAME_BYTES_MAX = 4096
const HEADER_BYTES = 28
const seed = Number(process.env.FUZZ_SEED ?? Date.now() & 0x7fff_ffff)

const octets = (maxLength: number) => fc.uint8Array({ maxLength }).map((value) => Buffer.from(value))
const header = fc.record(
  {
    program: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    procedure: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
    type: fc.constantFrom(1, 2, 3, 6),
    serial: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    status: fc.constantFrom(0, 1, 2)
  },
  { noNullPrototype: true }
)
const place = fc.oneof(fc.nat({ max: HEADER_BYTES - 1 }), fc.nat())
const frames = fc.array(
  fc.record({ header, payload: octets(300), descriptors: fc.option(fc.nat({ max: 32 })) })
)
/** Often inside a length word or a header, where a parser has most to get wrong. */
const size = fc.oneof(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 700 }))
const sizes = fc.array(size, { minLength: 1, maxLength: 20 })

interface Sent {
  readonly header: Omit<Frame, 'payload'>
  readonly payload: Buffer
  readonly descriptors: number | null
}

/** With `descriptors` a reply of type 5, its count in front and a byte for each behind. */
function wireOf({ header, payload, descriptors }: Sent): Buffer {
  if (descriptors === null) return Buffer.concat([encodeHeader(header, payload.length), payload])
  const count = Buffer.alloc(4)
  count.writeUInt32BE(descriptors)
  const head = encodeHeader({ ...header, type: 5 }, payload.length + 4)
  return Buffer.concat([head, count, payload, Buffer.alloc(descriptors)])
}

function expected({ header, payload, descriptors }: Sent): Frame {
  return { ...header, type: descriptors === null ? header.type : 1, payload }
}

/** Cuts bytes at the given sizes, taken in turn. */
function cut(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const pieces: Buffer[] = []
  for (let start = 0, turn = 0; start < bytes.length; turn++) {
    const size = cuts[turn % cuts.length] ?? 1
    pieces.push(bytes.subarray(start, start + size))
    start += size
  }
  return pieces
}

function parse(pieces: readonly Buffer[]): { frames: Frame[]; failed: boolean } {
  const seen: Frame[] = []
  const keep = (frame: Frame) => seen.push({ ...frame, payload: Buffer.from(frame.payload) })
  const parser = new FrameParser(keep, { frameBytesMax: FRAME_BYTES_MAX })
  try {
    for (const piece of pieces) parser.push(piece)
    return { frames: seen, failed: false }
  } catch (error) {
    assert.ok(error instanceof ConnectionError && error.code === 'E_PROTOCOL')
    return { frames: seen, failed: true }
  }
}

describe(`framing under fuzz (FUZZ_SEED=${seed})`, () => {
  it('gives the frames that were sent, wherever the bytes are cut', () => {
    fc.assert(
      fc.property(frames, sizes, (sent, cuts) => {
        const { frames: seen, failed } = parse(cut(Buffer.concat(sent.map(wireOf)), cuts))
        assert.equal(failed, false)
        assert.deepEqual(seen, sent.map(expected))
      }),
      { seed, numRuns: RUNS }
    )
  })

  it('gives the same from damaged bytes however they are cut, and never a frame beyond the bound', () => {
    fc.assert(
      fc.property(frames, sizes, place, fc.nat({ max: 255 }), (sent, cuts, at, to) => {
        const bytes = Buffer.concat(sent.map(wireOf))
        if (bytes.length > 0) bytes[at % bytes.length] = to
        const whole = parse([bytes])
        assert.deepEqual(parse(cut(bytes, cuts)), whole)
        for (const frame of whole.frames) assert.ok(frame.payload.length <= FRAME_BYTES_MAX - HEADER_BYTES)
      }),
      { seed, numRuns: RUNS }
    )
  })

  it('takes noise for frames or for an end, never for more than it was', () => {
    fc.assert(
      fc.property(octets(5000), sizes, (noise, cuts) => {
        const { frames: seen } = parse(cut(noise, cuts))
        const bytes = seen.reduce((sum, frame) => sum + HEADER_BYTES + frame.payload.length, 0)
        assert.ok(bytes <= noise.length)
      }),
      { seed, numRuns: RUNS }
    )
  })
})
