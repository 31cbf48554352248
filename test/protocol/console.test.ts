// Frames of consoles: vectors, round trips, and every way in which bytes are no frame.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { HostletError } from '../../src/errors.ts'
import {
  type ConsoleFrame,
  consoleDataBytesMax,
  consoleFrameBytesMax,
  consolePieces,
  consoleWindowBytes,
  decodeConsoleFrame,
  encodeConsoleFrame
} from '../../src/protocol/console.ts'

const session = '00112233-4455-6677-8899-aabbccddeeff'
const header = (type: string) => `01${type}00112233445566778899aabbccddeeff`
const bytes = (hex: string) => Buffer.from(hex.replaceAll(' ', ''), 'hex')

describe('frames of consoles', () => {
  it('are as the document writes them', () => {
    const data = encodeConsoleFrame({ type: 'data', session, data: Buffer.from('ls\n') })
    assert.equal(data.toString('hex'), `${header('01')}6c730a`)
    const credit = encodeConsoleFrame({ type: 'credit', session, bytes: 4_096 })
    assert.equal(credit.toString('hex'), `${header('02')}00001000`)
    const close = encodeConsoleFrame({ type: 'close', session, why: 'off', message: 'VM web-1 is off' })
    assert.equal(close.subarray(18).toString(), '{"why":"off","message":"VM web-1 is off"}')
    assert.equal(close.subarray(0, 18).toString('hex'), header('03'))
  })

  it('come back as they went', () => {
    const frames: ConsoleFrame[] = [
      { type: 'data', session, data: Buffer.from([0, 255, 27]) },
      { type: 'data', session, data: Buffer.alloc(consoleDataBytesMax, 'y') },
      { type: 'credit', session, bytes: 1 },
      { type: 'credit', session, bytes: consoleWindowBytes },
      { type: 'close', session, why: 'left', message: 'ü' }
    ]
    for (const frame of frames) assert.deepEqual(decodeConsoleFrame(encodeConsoleFrame(frame)), frame)
  })

  const bad: readonly [string, Buffer, RegExp][] = [
    ['nothing', Buffer.alloc(0), /0 bytes/],
    ['a part of a header', bytes(header('01')).subarray(0, 9), /9 bytes/],
    ['data of no bytes', bytes(header('01')), /18 bytes/],
    ['too much data', Buffer.concat([bytes(header('01')), Buffer.alloc(consoleDataBytesMax + 1)]), /at most/],
    ['another version', bytes(`02${header('01').slice(2)}00`), /version 2/],
    ['text', Buffer.from('{"type":"heartbeat","sentAt":1}'), /version 123/],
    ['an unknown type', bytes(`${header('09')}00`), /type 9/],
    ['a short credit', bytes(`${header('02')}0001`), /credit of 2 bytes/],
    ['a credit for nothing', bytes(`${header('02')}00000000`), /credit for 0 bytes/],
    ['a credit beyond the window', bytes(`${header('02')}00010001`), /65537/],
    ['an end that is no JSON', bytes(`${header('03')}7b`), /not JSON/],
    [
      'an end of an unknown kind',
      Buffer.concat([bytes(header('03')), Buffer.from('{"why":"x","message":""}')]),
      /why/
    ],
    [
      'an end that says more',
      Buffer.concat([bytes(header('03')), Buffer.from('{"why":"off","message":"","x":1}')]),
      /why/
    ],
    ['an end that is too long', Buffer.concat([bytes(header('03')), Buffer.alloc(9_000, 32)]), /9000 bytes/]
  ]
  for (const [name, input, expected] of bad)
    it(`are refused: ${name}`, () => {
      assert.throws(
        () => decodeConsoleFrame(input),
        (error) =>
          error instanceof HostletError && error.code === 'E_BAD_REQUEST' && expected.test(error.message)
      )
    })

  it('are read or refused, whatever the bytes are', () => {
    const anything = fc.uint8Array({ maxLength: 200 })
    const headed = fc
      .tuple(fc.constantFrom(1, 2, 3), anything)
      .map(([type, rest]) => Buffer.from([1, type, ...rest]))
    const input = fc.oneof(anything, headed)
    fc.assert(
      fc.property(input, (some) => {
        try {
          const frame = decodeConsoleFrame(Buffer.from(some))
          assert.deepEqual(decodeConsoleFrame(encodeConsoleFrame(frame)), frame)
        } catch (error) {
          assert.ok(error instanceof HostletError && error.code === 'E_BAD_REQUEST', String(error))
        }
      }),
      { numRuns: 2_000 }
    )
  })

  it('carry much in pieces, none of them longer than a frame may be', () => {
    const data = Buffer.alloc(consoleDataBytesMax * 2 + 5, 'x')
    const pieces = [...consolePieces(data)]
    assert.deepEqual(
      pieces.map(({ length }) => length),
      [consoleDataBytesMax, consoleDataBytesMax, 5]
    )
    assert.deepEqual(Buffer.concat(pieces), data)
    for (const piece of pieces)
      assert.ok(encodeConsoleFrame({ type: 'data', session, data: piece }).length <= consoleFrameBytesMax)
    assert.deepEqual([...consolePieces(Buffer.alloc(0))], [])
  })
})
