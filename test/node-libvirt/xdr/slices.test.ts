/** Decoding in slices: the same values and refusals as at once, with turns of the event loop in between. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { array, decodeAll, encodeAll, int, string, struct } from '../../../src/node-libvirt/xdr/schema.ts'
import { decodeInSlices } from '../../../src/node-libvirt/xdr/slices.ts'

const COUNT = 40
const list = struct({
  name: string(16),
  items: array(struct({ id: int, label: string(16) }), 100),
  last: int
})
const value = {
  name: 'list',
  items: Array.from({ length: COUNT }, (_, id) => ({ id, label: `item ${id}` })),
  last: 7
}
const payload = encodeAll(list, value, 10_000)

/** A clock on which every look takes a millisecond. */
function slowClock(): () => number {
  let nowMs = 0
  return () => nowMs++
}

describe('decoding in slices', () => {
  it('gives what decoding at once gives, and lets the event loop turn meanwhile', async () => {
    let turns = 0
    let going = true
    const turn = () => {
      turns++
      if (going) setImmediate(turn)
    }
    setImmediate(turn)
    const decoded = await decodeInSlices(list, payload, slowClock())
    going = false
    assert.deepEqual(decoded, value)
    // A slice ends at the fourth look at the clock after its beginning.
    assert.ok(turns >= COUNT / 5, `${turns} turns`)
  })

  it('is done at once while its time lasts', async () => {
    let turned = false
    const immediate = setImmediate(() => {
      turned = true
    })
    assert.deepEqual(await decodeInSlices(list, payload, () => 0), value)
    assert.equal(turned, false)
    clearImmediate(immediate)
  })

  it('takes types that have no place to pause', async () => {
    assert.equal(await decodeInSlices(int, Buffer.from('00000007', 'hex'), slowClock()), 7)
  })

  const hits: readonly [string, Buffer][] = [
    ['cut in an element', payload.subarray(0, 200)],
    ['cut behind the list', payload.subarray(0, -4)],
    ['with bytes left over', Buffer.concat([payload, Buffer.alloc(4)])],
    ['with a count beyond the bound', Buffer.concat([payload.subarray(0, 8), Buffer.from('000000ff', 'hex')])]
  ]
  for (const [name, broken] of hits) {
    it(`refuses a payload ${name}, and names the same place`, async () => {
      const atOnce = thrownBy(() => decodeAll(list, broken))
      assert.equal(atOnce.name, 'XdrError')
      await assert.rejects(decodeInSlices(list, broken, slowClock()), atOnce)
    })
  }
})

function thrownBy(work: () => unknown): Error {
  try {
    work()
  } catch (error) {
    if (error instanceof Error) return error
  }
  return assert.fail('nothing was thrown')
}
