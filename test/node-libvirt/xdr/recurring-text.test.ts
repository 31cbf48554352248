// Names that repeat in one payload: the same text as plain decoding gives, whatever stands beside or before them.

import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { XdrReader } from '../../../src/node-libvirt/xdr/reader.ts'
import { XdrError } from '../../../src/node-libvirt/xdr/schema.ts'

const text = (reader: XdrReader) => reader.text(reader.count(79, 'length of text'))
const name = (reader: XdrReader) => reader.recurring.read(reader, text)

function payloadOf(words: readonly string[]): Buffer {
  return Buffer.concat(
    words.flatMap((word) => {
      const bytes = Buffer.from(word)
      const length = Buffer.alloc(4)
      length.writeUInt32BE(bytes.length)
      return [length, bytes, Buffer.alloc(-bytes.length & 3)]
    })
  )
}

function readAll(read: (reader: XdrReader) => string, payload: Buffer): string[] {
  const reader = new XdrReader(payload)
  const texts: string[] = []
  while (reader.offset < reader.end) texts.push(read(reader))
  return texts
}

describe('names in a payload', () => {
  it('are what plain decoding gives, however they repeat', () => {
    const word = fc.string({ unit: fc.constantFrom('a', 'b', '.', 'é', '\0'), maxLength: 9 })
    fc.assert(
      fc.property(fc.array(word, { maxLength: 60 }), (words) => {
        const payload = payloadOf(words)
        assert.deepEqual(readAll(name, payload), readAll(text, payload))
      })
    )
  })

  it('stay apart where there are more of them than are remembered', () => {
    const words = Array.from({ length: 5_000 }, (_, index) => `vcpu.${index}.time`)
    const payload = payloadOf([...words, ...words])
    assert.deepEqual(readAll(name, payload), [...words, ...words])
  })

  it('differ when only their length differs', () => {
    assert.deepEqual(readAll(name, payloadOf(['ab', 'ab\0', 'ab'])), ['ab', 'ab\0', 'ab'])
  })

  it('are refused with bad padding, also after the same name with good padding', () => {
    const payload = payloadOf(['cpu.t', 'cpu.t'])
    payload[payload.length - 1] = 1
    const reader = new XdrReader(payload)
    assert.equal(name(reader), 'cpu.t')
    assert.throws(() => name(reader), new XdrError('padding is not zero', { offset: payload.length - 1 }))
  })

  it('stay apart by their bytes where decoding made them alike', () => {
    const [first, second] = ['00000001ff000000', '00000001fe000000']
    const reader = new XdrReader(Buffer.from(`${first}${second}${first}${second}`, 'hex'))
    for (const offset of [8, 16, 24, 32]) {
      assert.equal(name(reader), '\ufffd')
      assert.equal(reader.offset, offset)
    }
  })

  it('are refused when they end beyond the payload', () => {
    assert.throws(
      () => name(new XdrReader(Buffer.from('0000000861626364', 'hex'))),
      /needs 8 bytes, 4 are left/
    )
  })
})
