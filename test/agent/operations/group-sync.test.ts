// Who shares a sync with whom, and what a sync that failed means for everybody.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { GroupSync } from '../../../src/agent/operations/group-sync.ts'
import type { HostletError } from '../../../src/errors.ts'
import { settle } from '../../support/fake-clock.ts'

function setUp() {
  const syncs: PromiseWithResolvers<void>[] = []
  const faults: HostletError[] = []
  const order: string[] = []
  const group = new GroupSync({
    sync: () => {
      const sync = Promise.withResolvers<void>()
      syncs.push(sync)
      return sync.promise
    },
    onFault: (error) => faults.push(error)
  })
  const write = (name: string) => {
    group.noteWritten()
    return group.settled().then(
      () => order.push(name),
      ({ code }) => order.push(`${name} ${code}`)
    )
  }
  const end = async (index: number) => {
    syncs[index]?.resolve()
    await settle()
  }
  return { group, syncs, faults, order, write, end }
}

describe('waiting for the disk', () => {
  it('costs nothing where nothing was written', async () => {
    const { group, syncs } = setUp()
    await group.settled()
    assert.deepEqual([syncs.length, group.isSettled], [0, true])
  })

  it('ends with a sync that began after the write: who comes while one runs shares the next, in order', async () => {
    const { group, syncs, order, write, end } = setUp()
    void write('first')
    for (const name of ['second', 'third', 'fourth']) void write(name)
    await settle()
    assert.equal(syncs.length, 1)
    await end(0)
    assert.deepEqual(order, ['first'])
    void write('fifth')
    assert.equal(syncs.length, 2)
    await end(1)
    assert.deepEqual([order, group.isSettled], [['first', 'second', 'third', 'fourth'], false])
    await end(2)
    assert.deepEqual([order.at(-1), syncs.length, group.isSettled], ['fifth', 3, true])
  })

  it('fails for all once a sync failed, for a later one would mean nothing', async () => {
    const { group, syncs, faults, order, write } = setUp()
    void write('first')
    void write('second')
    syncs[0]?.reject(Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' }))
    await settle()
    assert.deepEqual(order, ['first E_UNAVAILABLE', 'second E_UNAVAILABLE'])
    await write('third')
    assert.deepEqual([order.at(-1), syncs.length, faults.length], ['third E_UNAVAILABLE', 1, 1])
    assert.match(group.fault?.message ?? '', /EIO.*starts anew.*kernel log/)
    assert.equal(group.isSettled, false)
  })
})
