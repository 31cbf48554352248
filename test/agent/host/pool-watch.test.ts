// A pool whose storage does not answer: noticed by what libvirt and the kernel still work on, and over when they are done.

import assert from 'node:assert/strict'
import { tmpdir } from 'node:os'
import { describe, it } from 'node:test'
import {
  type CallInFlight,
  domainLookupByName,
  storagePoolLookupByName,
  storageVolCreateXml,
  storageVolDelete
} from 'node-libvirt'
import {
  PoolWatch,
  poolSilentMs,
  poolSlowMs,
  type Space,
  spaceWaitMs
} from '../../../src/agent/host/pool-watch.ts'
import { FakeClock, settle } from '../../support/fake-clock.ts'

const pool = { name: 'disks', path: '/srv/disks' }
const uuid = new Uint8Array(16)
const never = new AbortController().signal

function callOn(name: string, forMs: number): CallInFlight {
  return { procedure: storageVolCreateXml, args: { pool: { name, uuid }, xml: '', flags: 0 }, forMs }
}

function setUp(inFlight: readonly CallInFlight[] = []) {
  const clock = new FakeClock()
  const asked: PromiseWithResolvers<Space>[] = []
  const readSpace = () => {
    const answer = Promise.withResolvers<Space>()
    asked.push(answer)
    return answer.promise
  }
  const calls = { inFlight }
  const watch = new PoolWatch({ pool, clock, readSpace, inFlight: () => calls.inFlight })
  return { clock, watch, asked, calls }
}

describe('the watch over a pool', () => {
  it('tells since when libvirt works on a call about it, given up or not, and is content once that is answered', () => {
    const { clock, watch, calls } = setUp([callOn('disks', poolSilentMs - 1)])
    assert.equal(watch.silence(), undefined)
    watch.requireAnswering()
    calls.inFlight = [callOn('disks', 5), callOn('disks', poolSilentMs)]
    assert.deepEqual(watch.silence(), { ...pool, since: clock.now() - poolSilentMs })
    assert.throws(() => watch.requireAnswering(), {
      code: 'E_UNAVAILABLE',
      message: /storage of pool disks at \/srv\/disks does not answer since 2030-01-02T03:03:35.000Z/
    })
    calls.inFlight = []
    assert.equal(watch.silence(), undefined)
    watch.requireAnswering()
  })

  it('goes by calls about this pool: by its volumes, and by looks for its name', () => {
    const forMs = poolSilentMs
    const volume = (name: string) => ({ pool: name, name: 'x.qcow2', key: '/x.qcow2' })
    const about: [boolean, CallInFlight][] = [
      [true, { procedure: storageVolDelete, args: { volume: volume('disks'), flags: 0 }, forMs: poolSlowMs }],
      // To remove a large file takes a while where all is well.
      [false, { procedure: storageVolDelete, args: { volume: volume('disks'), flags: 0 }, forMs }],
      [true, { procedure: storagePoolLookupByName, args: { name: 'disks' }, forMs }],
      [
        false,
        { procedure: storageVolDelete, args: { volume: volume('other'), flags: 0 }, forMs: poolSlowMs }
      ],
      [false, callOn('other', forMs)],
      [false, { procedure: domainLookupByName, args: { name: 'disks' }, forMs }]
    ]
    for (const [expected, call] of about)
      assert.equal(setUp([call]).watch.silence() !== undefined, expected, JSON.stringify(call.args))
  })

  it('asks the file system once at a time, lets everybody wait as long as they like, and tells of an answer that does not come', async () => {
    const { clock, watch, asked } = setUp()
    const impatient = new AbortController()
    const left = assert.rejects(watch.space({ signal: impatient.signal }), { message: 'enough' })
    const patient = watch.space({ signal: never })
    impatient.abort(new Error('enough'))
    await left
    await clock.advance(poolSilentMs)
    assert.deepEqual(watch.silence(), { ...pool, since: clock.now() - poolSilentMs })
    const later = watch.space({ signal: never })
    assert.equal(asked.length, 1)
    asked[0]?.resolve({ capacityBytes: 10, availableBytes: 4 })
    assert.deepEqual(await patient, { capacityBytes: 10, availableBytes: 4 })
    assert.deepEqual(await later, { capacityBytes: 10, availableBytes: 4 })
    assert.equal(watch.silence(), undefined)
    void watch.space({ signal: never })
    assert.equal(asked.length, 2)
  })

  it('has the room that was left last for who only tells it, without waiting for long', async () => {
    const { clock, watch, asked, calls } = setUp()
    const space = { capacityBytes: 10, availableBytes: 4 }
    const ask = () => watch.lastSpace({ signal: never }, (wait) => watch.space(wait))
    const first = ask()
    await settle()
    asked[0]?.resolve(space)
    assert.deepEqual(await first, space)
    const second = ask()
    await settle()
    await clock.advance(spaceWaitMs)
    assert.deepEqual(await second, space)
    calls.inFlight = [callOn('disks', poolSilentMs)]
    assert.deepEqual(await ask(), space)
    assert.equal(asked.length, 2)
  })

  it('lets other faults through, and the end of who asks', async () => {
    const { watch } = setUp()
    const fault = watch.lastSpace({ signal: never }, () => Promise.reject(new Error('libvirt is away')))
    await assert.rejects(fault, { message: 'libvirt is away' })
    const gone = AbortSignal.abort(new Error('the agent stops'))
    await assert.rejects(
      watch.lastSpace({ signal: gone }, (wait) => watch.space(wait)),
      { message: 'the agent stops' }
    )
  })

  it('reads the room of a directory as the kernel has it', async () => {
    const clock = new FakeClock()
    const watch = new PoolWatch({ pool: { name: 'tmp', path: tmpdir() }, clock, inFlight: () => [] })
    const { capacityBytes, availableBytes } = await watch.space({ signal: never })
    assert.ok(capacityBytes > 0 && availableBytes <= capacityBytes, `${availableBytes} of ${capacityBytes}`)
  })
})
