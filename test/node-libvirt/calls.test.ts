/** Calls: four at once, priorities, bounded queues, deadlines, cancellation, late replies and the end. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { describe, it } from 'node:test'
import { type CallOptions, Calls, type CallsOptions } from '../../src/node-libvirt/calls.ts'
import { ConnectionError, LibvirtError } from '../../src/node-libvirt/errors.ts'
import { type Procedure, procedure, programs } from '../../src/node-libvirt/protocol/procedure.ts'
import {
  array,
  encodeAll,
  int,
  nothing,
  string,
  struct,
  XdrError
} from '../../src/node-libvirt/xdr/schema.ts'
import { FakeClock } from './fake-clock.ts'
import { errorPayload } from './fake-libvirtd.ts'
import { hex } from './hex.ts'

const REMOTE = 0x20008086
const double = procedure(500, struct({ value: int }), struct({ doubled: int }), { priority: 'high' })
/** The same, which libvirtd does on the workers that a stuck QEMU can block. */
const slowDouble = { ...double, priority: 'low' } as const

function setUp(options: Partial<CallsOptions> = {}) {
  const clock = new FakeClock()
  const sent: Buffer[] = []
  const calls = new Calls((frame) => sent.push(frame), { clock, queuedMax: 100, ...options })
  const call = (
    value: number,
    { signal, deadlineMs = 1000 }: CallOptions = {},
    procedure: Procedure<typeof double.args, typeof double.result> = double
  ) =>
    new Promise<number>((resolve, onError) => {
      const onResult = ({ doubled }: { doubled: number }) => resolve(doubled)
      calls.submit({ procedure, args: { value }, signal, deadlineMs, onResult, onError })
    })
  const slowCall = (value: number) => call(value, {}, slowDouble)
  /** Ends what is under way, so that no promise floats. */
  const end = async (results: readonly Promise<number>[]) => {
    const ends = Promise.allSettled(results)
    calls.end(new ConnectionError('E_INTERRUPTED', 'the test is over'))
    await ends
  }
  const reply = (serial: number, payload: Buffer, status = 0) =>
    calls.receive({ program: REMOTE, procedure: 500, type: 1, serial, status, payload })
  const values = () => sent.map((frame) => (frame.length > 28 ? frame.readInt32BE(28) : null))
  return { clock, calls, call, slowCall, reply, end, sent, values }
}

function connectionError(code: string, sent: boolean): (error: unknown) => boolean {
  return (error) => error instanceof ConnectionError && error.code === code && error.sent === sent
}

describe('calls', () => {
  it('match replies to calls in whatever order they come', async () => {
    const { call, reply } = setUp()
    const first = call(1)
    const second = call(2)
    reply(2, hex('00000004'))
    reply(1, hex('00000002'))
    assert.deepEqual(await Promise.all([first, second]), [2, 4])
  })

  it('tell what libvirtd works on and for how long, also what was given up, and nothing that was not sent', async () => {
    const { calls, call, clock, reply, end } = setUp()
    const given = new AbortController()
    const results = [call(1, { signal: given.signal }), ...[2, 3, 4, 5].map((value) => call(value))]
    clock.advance(40)
    given.abort()
    await assert.rejects(results[0] as Promise<number>)
    reply(2, hex('00000004'))
    clock.advance(2)
    assert.deepEqual(
      calls.inFlight.map(({ args, forMs }) => [(args as { value: number }).value, forMs]),
      [
        [1, 42],
        [3, 42],
        [4, 42],
        [5, 2]
      ]
    )
    await end(results)
    assert.deepEqual(calls.inFlight, [])
  })

  it('run four at once and send the next when one is answered', async () => {
    const { calls, call, reply, values } = setUp()
    const results = [1, 2, 3, 4, 5, 6].map((value) => call(value))
    assert.deepEqual(values(), [1, 2, 3, 4])
    assert.deepEqual(calls.load, { inFlight: 4, abandoned: 0, queued: 2 })
    reply(3, hex('00000006'))
    assert.deepEqual(values(), [1, 2, 3, 4, 5])
    assert.equal(await results[2], 6)
    for (const serial of [1, 2, 4, 5, 6]) reply(serial, hex('00000000'))
    assert.equal((await Promise.all(results)).length, 6)
  })

  it('of low priority leave a slot to those of high priority, whatever hangs', async () => {
    const { call, slowCall, calls, reply, end, values } = setUp()
    const hung = [1, 2, 3, 4].map(slowCall)
    assert.deepEqual(values(), [1, 2, 3])
    assert.deepEqual(calls.load, { inFlight: 3, abandoned: 0, queued: 1 })
    const destroy = call(9)
    assert.deepEqual(values(), [1, 2, 3, 9])
    reply(5, hex('00000012'))
    assert.equal(await destroy, 18)
    assert.deepEqual(values(), [1, 2, 3, 9])
    await end(hung)
  })

  it('of high priority are sent first, each priority in its order', async () => {
    const { call, slowCall, reply, end, values } = setUp()
    const results = [slowCall(1), slowCall(2), slowCall(3), call(4)]
    results.push(slowCall(5), call(6), slowCall(7), call(8))
    assert.deepEqual(values(), [1, 2, 3, 4])
    reply(1, hex('00000000'))
    reply(4, hex('00000000'))
    assert.deepEqual(values(), [1, 2, 3, 4, 6, 8])
    reply(6, hex('00000000'))
    reply(8, hex('00000000'))
    assert.deepEqual(values(), [1, 2, 3, 4, 6, 8, 5])
    reply(2, hex('00000000'))
    assert.deepEqual(values(), [1, 2, 3, 4, 6, 8, 5, 7])
    await end(results)
  })

  it('of low priority that fill their queue do not keep the others out', async () => {
    const { call, slowCall, end, values } = setUp({ queuedMax: 2 })
    const results = [1, 2, 3, 4, 5].map(slowCall)
    await assert.rejects(slowCall(6), connectionError('E_BUSY', false))
    results.push(call(7), call(8), call(9))
    assert.deepEqual(values(), [1, 2, 3, 7])
    await assert.rejects(call(10), connectionError('E_BUSY', false))
    await end(results)
  })

  it('refuse more than the queue holds', async () => {
    const { call, calls } = setUp({ queuedMax: 2 })
    const results = Array.from({ length: 7 }, (_, value) => call(value))
    await assert.rejects(results[6] as Promise<number>, connectionError('E_BUSY', false))
    const ends = Promise.allSettled(results)
    calls.end(new ConnectionError('E_INTERRUPTED', 'lost'))
    assert.equal((await ends).length, 7)
  })

  it('give libvirt’s errors with code, domain, level and strings', async () => {
    const { call, reply } = setUp()
    const result = call(1)
    reply(1, errorPayload({ code: 42, domain: 10, message: 'Domain not found' }), 1)
    await assert.rejects(result, (error) => {
      assert.ok(error instanceof LibvirtError)
      const { code, domain, level, message, strings } = error
      assert.deepEqual(
        { code, domain, level, message, strings },
        { code: 42, domain: 10, level: 2, message: 'Domain not found', strings: ['detail', null, null] }
      )
      return true
    })
  })

  it('give libvirt’s error although its message is not UTF-8', async () => {
    const { call, reply } = setUp()
    const result = call(1)
    const message = Buffer.from('no file \xff', 'latin1')
    reply(1, errorPayload({ code: 38, domain: 18, message }), 1)
    await assert.rejects(result, { name: 'LibvirtError', code: 38, message: 'no file \ufffd' })
  })

  it('report a procedure that the server does not know as unsupported', async () => {
    const { call, reply } = setUp()
    const result = call(1)
    reply(1, errorPayload({ code: 39, domain: 7, message: 'unknown procedure: 500' }), 1)
    await assert.rejects(result, connectionError('E_UNSUPPORTED', false))
  })

  it('give the same error as libvirt’s where the procedure is as old as libvirt 9.0', async () => {
    const { calls } = setUp()
    for (const [serial, program, number] of [
      [1, 'remote', 443],
      [2, 'qemu', 7]
    ] as const) {
      const { promise, resolve: onResult, reject: onError } = Promise.withResolvers<object>()
      const known = procedure(number, nothing, nothing, { program })
      calls.submit({ procedure: known, args: {}, deadlineMs: 10, onResult, onError })
      const payload = errorPayload({ code: 39, domain: 7, message: 'Too many domains' })
      calls.receive({
        program: programs[program],
        procedure: number,
        type: 1,
        serial,
        status: 1,
        payload
      })
      await assert.rejects(promise, {
        name: 'LibvirtError',
        code: 39,
        domain: 7,
        message: 'Too many domains'
      })
    }
  })

  it('fail only themselves when a reply does not decode', async () => {
    const { call, reply } = setUp()
    const results = [call(1), call(2), call(3)]
    reply(1, hex('0000'))
    reply(2, hex('00'), 1)
    reply(3, hex('00000006'))
    await assert.rejects(results[0] as Promise<number>, connectionError('E_PROTOCOL', true))
    await assert.rejects(results[1] as Promise<number>, connectionError('E_PROTOCOL', true))
    assert.equal(await results[2], 6)
  })

  it('with a large result keep their slot until it is decoded, and decode what was received', async () => {
    const { calls, call, reply, values, end } = setUp()
    const list = procedure(500, nothing, struct({ values: array(int, 100_000) }))
    const { promise, resolve: onResult, reject: onError } = Promise.withResolvers<{ values: number[] }>()
    calls.submit({ procedure: list, args: {}, deadlineMs: 10, onResult, onError })
    const others = [1, 2, 3, 4].map((value) => call(value))
    const large = Array.from({ length: 50_000 }, (_, index) => index)
    const payload = encodeAll(list.result, { values: large }, 1_000_000)
    reply(1, payload)
    payload.fill(0)
    assert.deepEqual(values().slice(1), [1, 2, 3])
    assert.deepEqual((await promise).values, large)
    assert.deepEqual(values().slice(1), [1, 2, 3, 4])
    await end(others)
  })

  it('fail only themselves when a large result does not decode', async () => {
    const { call, reply } = setUp()
    const result = call(1)
    reply(1, Buffer.alloc(500_000))
    await assert.rejects(result, connectionError('E_PROTOCOL', true))
  })

  it('refuse arguments that do not encode, and send nothing', async () => {
    const { call, sent } = setUp()
    await assert.rejects(call(0.5), (error) => {
      return (
        error instanceof ConnectionError && error.code === 'E_BAD_REQUEST' && error.cause instanceof XdrError
      )
    })
    assert.equal(sent.length, 0)
  })

  it('keep their slot after a deadline until the late reply, which is dropped', async () => {
    const { call, calls, clock, reply, values } = setUp()
    const results = [1, 2, 3, 4].map((value) => call(value, { deadlineMs: 100 }))
    const ends = Promise.allSettled(results)
    clock.advance(100)
    for (const end of await ends) {
      assert.ok(end.status === 'rejected' && connectionError('E_TIMEOUT', true)(end.reason))
    }
    const waiting = call(5)
    assert.deepEqual(calls.load, { inFlight: 4, abandoned: 4, queued: 1 })
    assert.deepEqual(values(), [1, 2, 3, 4])
    reply(2, hex('00000004'))
    assert.deepEqual(values(), [1, 2, 3, 4, 5])
    reply(5, hex('0000000a'))
    assert.equal(await waiting, 10)
  })

  it('count their time in the queue towards the deadline', async () => {
    const { call, calls, clock, values } = setUp()
    const blocked = [1, 2, 3, 4].map((value) => call(value, { deadlineMs: 10_000 }))
    const queued = assert.rejects(call(5, { deadlineMs: 50 }), connectionError('E_TIMEOUT', false))
    clock.advance(50)
    await queued
    assert.equal(calls.load.queued, 0)
    assert.deepEqual(values(), [1, 2, 3, 4])
    const ends = Promise.allSettled(blocked)
    calls.end(new ConnectionError('E_INTERRUPTED', 'lost'))
    await ends
  })

  it('can be cancelled before they begin, in the queue and while they run', async () => {
    const { call, calls, values } = setUp()
    await assert.rejects(call(0, { signal: AbortSignal.abort() }), connectionError('E_CANCELLED', false))
    const controller = new AbortController()
    const running = [1, 2, 3, 4].map((value) => call(value, { signal: controller.signal }))
    const queued = call(5, { signal: controller.signal })
    const ends = Promise.allSettled([...running, queued])
    controller.abort(new Error('no longer wanted'))
    const sentOf = (end: PromiseSettledResult<number>) =>
      end.status === 'rejected' && end.reason.code === 'E_CANCELLED' && end.reason.sent
    assert.deepEqual((await ends).map(sentOf), [true, true, true, true, false])
    assert.deepEqual(calls.load, { inFlight: 4, abandoned: 4, queued: 0 })
    assert.deepEqual(values(), [1, 2, 3, 4])
  })

  it('hand a late result to the one who must undo it', () => {
    const { calls, clock, reply } = setUp()
    const heard: string[] = []
    const submit = () =>
      calls.submit({
        procedure: double,
        args: { value: 1 },
        deadlineMs: 10,
        onResult: () => heard.push('result'),
        onError: (error) => heard.push(String(error.code)),
        onLateResult: ({ doubled }) => heard.push(`late ${doubled}`)
      })
    submit()
    submit()
    clock.advance(10)
    reply(1, hex('00000002'))
    reply(2, errorPayload({ code: 1, domain: 0, message: 'failed' }), 1)
    assert.deepEqual(heard, ['E_TIMEOUT', 'E_TIMEOUT', 'late 2'])
  })

  it('leave no timer and no listener behind', async () => {
    const { call, clock, reply } = setUp()
    const controller = new AbortController()
    const results = [1, 2].map((value) => call(value, { signal: controller.signal }))
    reply(1, hex('00000002'))
    reply(2, hex('00000004'))
    await Promise.all(results)
    assert.equal(clock.pending, 0)
    controller.abort()
    assert.deepEqual(await Promise.all(results), [2, 4])
  })

  it('all end with the connection, and know whether they were sent', async () => {
    const { call, calls } = setUp()
    const results = [1, 2, 3, 4, 5].map((value) => call(value))
    const ends = Promise.allSettled(results)
    calls.end(new ConnectionError('E_INTERRUPTED', 'the socket failed'))
    const reasons = (await ends).map((end) => (end.status === 'rejected' ? end.reason : null))
    for (const reason of reasons.slice(0, 4)) assert.ok(connectionError('E_INTERRUPTED', true)(reason))
    assert.ok(connectionError('E_UNAVAILABLE', false)(reasons[4]))
    await assert.rejects(call(6), connectionError('E_UNAVAILABLE', false))
  })

  it('let urgent ones pass the limit, and refuse the rest once that is asked for', async () => {
    const { call, calls, values, reply } = setUp()
    const results = [1, 2, 3, 4, 5].map((value) => call(value))
    const ends = Promise.allSettled(results)
    calls.refuse(new ConnectionError('E_UNAVAILABLE', 'closing'))
    const { promise, resolve: onResult, reject: onError } = Promise.withResolvers<{ doubled: number }>()
    calls.submit({ procedure: double, args: { value: 9 }, deadlineMs: 10, urgent: true, onResult, onError })
    assert.deepEqual(values(), [1, 2, 3, 4, 9])
    for (const serial of [1, 2, 3, 4, 6]) reply(serial, hex('00000012'))
    assert.deepEqual(await promise, { doubled: 18 })
    const states = (await ends).map((end) => end.status)
    assert.deepEqual(states, ['fulfilled', 'fulfilled', 'fulfilled', 'fulfilled', 'rejected'])
    await assert.rejects(call(6), connectionError('E_UNAVAILABLE', false))
  })

  for (const [name, frame] of [
    ['of an unknown serial', { program: REMOTE, procedure: 500, serial: 77 }],
    ['of another procedure', { program: REMOTE, procedure: 501, serial: 1 }],
    ['of another program', { program: 0x20008087, procedure: 500, serial: 1 }]
  ] as const) {
    it(`treat a reply ${name} as a broken connection`, () => {
      const { calls } = setUp()
      calls.submit({
        procedure: double,
        args: { value: 1 },
        deadlineMs: 10,
        onResult: () => {},
        onError: () => {}
      })
      assert.throws(
        () => calls.receive({ ...frame, type: 1, status: 0, payload: hex('00000002') }),
        connectionError('E_PROTOCOL', false)
      )
    })
  }

  it('begin serials anew at 1, without those of calls that run and of open streams', async () => {
    const { call, reply, end, sent } = setUp({ serialMax: 5, isTaken: (serial) => serial === 2 })
    const serials = () => sent.map((frame) => frame.readUInt32BE(20))
    const results = [1, 2, 3, 4].map((value) => call(value))
    assert.deepEqual(serials(), [1, 3, 4, 5])
    reply(3, hex('00000000'))
    results.push(call(5))
    assert.deepEqual(serials(), [1, 3, 4, 5, 3])
    await end(results)
  })

  it('name the program of a QEMU procedure on the wire', () => {
    const { calls, sent } = setUp()
    const monitor = procedure(3, struct({ command: string(64) }), nothing, { program: 'qemu' })
    calls.submit({
      procedure: monitor,
      args: { command: 'x' },
      deadlineMs: 10,
      onResult: () => {},
      onError: () => {}
    })
    const expected = hex(`
      00000024 20008087 00000001 00000003
      00000000  # type: call
      00000001  # serial
      00000000  # status
      00000001 78 000000`)
    assert.deepEqual(sent[0], expected)
  })
})
