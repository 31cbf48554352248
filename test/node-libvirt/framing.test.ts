/** Frames of libvirt's RPC in annotated hex, cut anywhere, and the ones that must end a connection. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { describe, it } from 'node:test'
import { ConnectionError } from '../../src/node-libvirt/errors.ts'
import {
  encodeFrame,
  encodeHeader,
  FRAME_BYTES_MAX,
  type Frame,
  FrameParser
} from '../../src/node-libvirt/framing.ts'
import { int, string, XdrError } from '../../src/node-libvirt/xdr/schema.ts'
import { hex } from './hex.ts'

const reply = hex(`
  00000020  # length: 32, itself included
  20008086  # program: remote
  00000001  # version
  0000003c  # procedure: CONNECT_SUPPORTS_FEATURE
  00000001  # type: reply
  00000007  # serial
  00000000  # status: ok
  00000001  # supported`)

const ping = hex(`
  0000001c  # length: a header alone
  6b656570  # program: keepalive
  00000001  # version
  00000001  # procedure: PING
  00000002  # type: message
  00000000  # serial
  00000000  # status: ok`)

const replyWithDescriptors = hex(`
  00000024  # length, without the bytes that carry the descriptors
  20008086 00000001 0000003c
  00000005  # type: reply with descriptors
  00000008  # serial
  00000000  # status: ok
  00000002  # descriptors
  00000001  # supported
  00 00     # one byte a descriptor`)

const replySeen = {
  program: 0x20008086,
  procedure: 60,
  type: 1,
  serial: 7,
  status: 0,
  payload: hex('00000001')
}
const pingSeen = { program: 0x6b656570, procedure: 1, type: 2, serial: 0, status: 0, payload: hex('') }

function parse(chunks: readonly Buffer[], options?: { frameBytesMax: number }): Frame[] {
  const frames: Frame[] = []
  const parser = new FrameParser(
    (frame) => frames.push({ ...frame, payload: Buffer.from(frame.payload) }),
    options
  )
  for (const chunk of chunks) parser.push(chunk)
  return frames
}

function piecesOf(bytes: Buffer, size: number): Buffer[] {
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
    bytes.subarray(index * size, (index + 1) * size)
  )
}

describe('framing', () => {
  it('splits what arrives together', () => {
    assert.deepEqual(parse([Buffer.concat([reply, ping, reply])]), [replySeen, pingSeen, replySeen])
  })

  it('joins what arrives in pieces of any size', () => {
    const bytes = Buffer.concat([reply, replyWithDescriptors, ping, reply])
    const whole = parse([bytes])
    assert.equal(whole.length, 4)
    for (let size = 1; size < bytes.length; size++) assert.deepEqual(parse(piecesOf(bytes, size)), whole)
  })

  it('skips the bytes that carry descriptors and gives the reply without their count', () => {
    assert.deepEqual(parse([Buffer.concat([replyWithDescriptors, ping])]), [
      { ...replySeen, serial: 8 },
      pingSeen
    ])
  })

  it('gives a large frame that arrives in small pieces, without copying it for each', () => {
    const payload = Buffer.alloc(8_000_000, 7)
    const header = encodeHeader({ program: 1, procedure: 2, type: 3, serial: 4, status: 2 }, payload.length)
    const [frame] = parse(piecesOf(Buffer.concat([header, payload]), 1000))
    assert.ok(frame?.payload.equals(payload))
  })

  it('takes the largest frame of libvirt', () => {
    const header = encodeHeader(
      { program: 1, procedure: 2, type: 3, serial: 4, status: 2 },
      FRAME_BYTES_MAX - 28
    )
    assert.equal(
      parse(piecesOf(Buffer.concat([header, Buffer.alloc(FRAME_BYTES_MAX - 28)]), 65_536)).length,
      1
    )
  })

  const broken: readonly [string, string][] = [
    ['one byte longer than allowed', '02000005'],
    ['shorter than a header', '0000001b'],
    ['of no length', '00000000'],
    ['with another protocol version', '0000001c 20008086 00000002 0000003c 00000001 00000007 00000000'],
    ['that is a call', '0000001c 20008086 00000001 0000003c 00000000 00000007 00000000'],
    ['that is a call with descriptors', '0000001c 20008086 00000001 0000003c 00000004 00000007 00000000'],
    ['of an unknown type', '0000001c 20008086 00000001 0000003c 00000007 00000007 00000000'],
    ['of an unknown status', '0000001c 20008086 00000001 0000003c 00000001 00000007 00000003'],
    ['of a negative status', '0000001c 20008086 00000001 0000003c 00000001 00000007 ffffffff'],
    [
      'with descriptors, without their count',
      '0000001c 20008086 00000001 0000003c 00000005 00000007 00000000'
    ],
    [
      'with more descriptors than libvirt passes',
      '00000020 20008086 00000001 0000003c 00000005 00000007 00000000 00000021'
    ]
  ]
  for (const [name, wire] of broken) {
    it(`refuses a frame ${name}`, () => {
      const isProtocolError = (error: unknown) =>
        error instanceof ConnectionError && error.code === 'E_PROTOCOL'
      assert.throws(() => parse([hex(wire)]), isProtocolError)
      assert.throws(() => parse(piecesOf(hex(wire), 3)), isProtocolError)
    })
  }

  it('writes the bytes of a call', () => {
    const header = { program: 0x20008086, procedure: 60, type: 0, serial: 9, status: 0 }
    const expected = hex(`
      00000020 20008086 00000001 0000003c
      00000000  # type: call
      00000009  # serial
      00000000  # status
      0000000a  # feature: keepalive`)
    assert.deepEqual(encodeFrame(header, int, 10), expected)
  })

  it('refuses to write a frame larger than libvirt takes', () => {
    const header = { program: 1, procedure: 2, type: 0, serial: 4, status: 0 }
    assert.throws(() => encodeFrame(header, string(40_000_000), 'a'.repeat(33_554_408)), XdrError)
  })
})
