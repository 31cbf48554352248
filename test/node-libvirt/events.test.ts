/** Events: registration, delivery in order, early ones, colliding ids, and what must not stop the rest. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { EVENTS_EARLY_MAX, SUBSCRIPTIONS_MAX } from '../../src/node-libvirt/events.ts'
import {
  ConnectionError,
  connectGetHostname,
  domainEvents,
  type EventDeclaration,
  event,
  networkEvents,
  struct
} from '../../src/node-libvirt/index.ts'
import { FakeClock } from './fake-clock.ts'
import { FakeLibvirtd } from './fake-libvirtd.ts'
import { hex } from './hex.ts'

const DOMAIN_REGISTER = 316
const DOMAIN_DEREGISTER = 317
const NETWORK_REGISTER = 313
const LIFECYCLE = 318
const NETWORK_LIFECYCLE = 315
const HOSTNAME = 59
const hostnameHv1 = '00000003 687631 00'
const uuid = '00112233445566778899aabbccddeeff'

function lifecycle(callbackId: string, name = '77656231', detail = '00000000'): string {
  return `
    ${callbackId}              # callback id
    00000004 ${name}           # domain: web1
    ${uuid}
    00000007                   # id
    00000002                   # event: started
    ${detail}                  # detail`
}

function networkStarted(callbackId: string): string {
  return `${callbackId} 00000002 6e30 0000 ${uuid} 00000002 00000000`
}

async function setUp(answers: Parameters<typeof FakeLibvirtd.start>[0] = {}) {
  const stack = new AsyncDisposableStack()
  const server = stack.use(
    await FakeLibvirtd.start({ [HOSTNAME]: hostnameHv1, [DOMAIN_DEREGISTER]: '', ...answers })
  )
  const problems: Error[] = []
  const clock = new FakeClock()
  const onProblem = (problem: Error) => problems.push(problem)
  const connection = stack.use(await server.connect({ clock, keepAlive: false, onProblem }))
  /** Everything that the server sent before has been delivered when this resolves. */
  const settle = () => connection.call(connectGetHostname, {})
  return { server, connection, clock, problems, settle, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

describe('subscriptions to the same event and object', () => {
  it('share one registration, which ends with the last of them', async () => {
    await using fake = await setUp({ [DOMAIN_REGISTER]: '00000005' })
    const seen: string[] = []
    const subscribe = (name: string) =>
      fake.connection.on(domainEvents.lifecycle, ({ domain }) => seen.push(`${name} ${domain.name}`))
    const [first, second] = await Promise.all([subscribe('first'), subscribe('second')])
    const third = await subscribe('third')
    assert.equal(fake.server.requests(DOMAIN_REGISTER).length, 1)
    fake.server.event(LIFECYCLE, lifecycle('00000005', '77656231'))
    await fake.settle()
    assert.deepEqual(seen.splice(0), ['first web1', 'second web1', 'third web1'])
    await first[Symbol.asyncDispose]()
    await second[Symbol.asyncDispose]()
    assert.equal(fake.server.requests(DOMAIN_DEREGISTER).length, 0)
    fake.server.event(LIFECYCLE, lifecycle('00000005', '77656232'))
    await fake.settle()
    assert.deepEqual(seen.splice(0), ['third web2'])
    await third[Symbol.asyncDispose]()
    assert.equal(fake.server.requests(DOMAIN_DEREGISTER).length, 1)
  })

  it('are those of one UUID, whatever else is said of the object', async () => {
    await using fake = await setUp({ [DOMAIN_REGISTER]: '00000005' })
    const web1 = { name: 'web1', uuid: hex(uuid), id: -1 }
    const on = (object: unknown, event: EventDeclaration = domainEvents.reboot) =>
      fake.connection.on(event, () => {}, { object })
    await on(web1)
    await on({ ...web1, name: 'renamed', id: 7 })
    assert.equal(fake.server.requests(DOMAIN_REGISTER).length, 1)
    await on({ ...web1, uuid: hex('ff112233445566778899aabbccddeeff') })
    await on(null)
    await on(web1, domainEvents.rtcChange)
    assert.equal(fake.server.requests(DOMAIN_REGISTER).length, 4)
  })

  it('do not fail with the one that gives up', async () => {
    await using fake = await setUp({ [DOMAIN_REGISTER]: null })
    const controller = new AbortController()
    const seen: string[] = []
    const on = (name: string, signal?: AbortSignal) =>
      fake.connection.on(domainEvents.lifecycle, () => seen.push(name), { signal })
    const cancelled = assert.rejects(on('first', controller.signal), { code: 'E_CANCELLED' })
    const kept = on('second')
    const request = await fake.server.received(DOMAIN_REGISTER)
    controller.abort()
    await cancelled
    fake.server.reply(request, '00000005')
    fake.server.event(LIFECYCLE, lifecycle('00000005'))
    await kept
    await fake.settle()
    assert.deepEqual(seen, ['second'])
    assert.equal(fake.server.requests(DOMAIN_DEREGISTER).length, 0)
  })

  it('all fail when libvirt refuses, and the next one asks anew', async () => {
    await using fake = await setUp({ [DOMAIN_REGISTER]: null })
    const on = () => fake.connection.on(domainEvents.lifecycle, () => {})
    const ends = Promise.allSettled([on(), on()])
    const request = await fake.server.received(DOMAIN_REGISTER)
    fake.server.fail(request, { code: 8, domain: 0, message: 'no' })
    assert.deepEqual(
      (await ends).map((end) => end.status === 'rejected' && end.reason.code),
      [8, 8]
    )
    fake.server.answer(DOMAIN_REGISTER, '00000006')
    await on()
    assert.equal(fake.server.requests(DOMAIN_REGISTER).length, 2)
  })

  it('wait for the end of the last registration before they ask for another', async () => {
    await using fake = await setUp({ [DOMAIN_REGISTER]: '00000005', [DOMAIN_DEREGISTER]: null })
    const on = () => fake.connection.on(domainEvents.lifecycle, () => {})
    const disposing = (await on())[Symbol.asyncDispose]()
    const again = on()
    const farewell = await fake.server.received(DOMAIN_DEREGISTER)
    await fake.settle()
    assert.equal(fake.server.requests(DOMAIN_REGISTER).length, 1)
    fake.server.reply(farewell, '')
    await disposing
    await again
    assert.equal(fake.server.requests(DOMAIN_REGISTER).length, 2)
  })

  it('hear an event although the listener before them throws', async () => {
    await using fake = await setUp({ [DOMAIN_REGISTER]: '00000005' })
    const seen: string[] = []
    await fake.connection.on(domainEvents.lifecycle, () => {
      throw new Error('listener broke')
    })
    await fake.connection.on(domainEvents.lifecycle, ({ domain }) => seen.push(domain.name))
    fake.server.event(LIFECYCLE, lifecycle('00000005'))
    await fake.settle()
    assert.deepEqual(seen, ['web1'])
    assert.equal(fake.problems.length, 1)
  })

  it('are not kept waiting for ever by a libvirtd that does not answer their end', async () => {
    await using fake = await setUp({ [DOMAIN_REGISTER]: '00000005', [DOMAIN_DEREGISTER]: null })
    const subscription = await fake.connection.on(domainEvents.lifecycle, () => {})
    const late = assert.rejects(async () => subscription[Symbol.asyncDispose](), { code: 'E_TIMEOUT' })
    await fake.server.received(DOMAIN_DEREGISTER)
    fake.clock.advance(30_000)
    await late
  })
})

describe('events', () => {
  it('are registered for all objects and delivered decoded', async () => {
    await using fake = await setUp({ [DOMAIN_REGISTER]: '00000005' })
    const seen: unknown[] = []
    await fake.connection.on(domainEvents.lifecycle, ({ domain, event, detail }) =>
      seen.push([domain.name, domain.uuid.toString('hex'), domain.id, event, detail])
    )
    assert.deepEqual(fake.server.requests(DOMAIN_REGISTER)[0]?.payload, hex('00000000 00000000'))
    fake.server.event(LIFECYCLE, lifecycle('00000005'))
    await fake.settle()
    assert.deepEqual(seen, [['web1', uuid, 7, 2, 0]])
  })

  it('are registered for one object', async () => {
    await using fake = await setUp({ [DOMAIN_REGISTER]: '00000005' })
    const object = { name: 'web1', uuid: hex(uuid), id: -1 }
    await fake.connection.on(domainEvents.reboot, () => {}, { object })
    const expected = hex(`
      00000001           # event: reboot
      00000001           # an object
      00000004 77656231 ${uuid} ffffffff`)
    assert.deepEqual(fake.server.requests(DOMAIN_REGISTER)[0]?.payload, expected)
  })

  it('that come before the reply to their registration are kept and delivered in order', async () => {
    await using fake = await setUp({
      [DOMAIN_REGISTER]: (request, server) => {
        server.event(LIFECYCLE, lifecycle('00000005', '77656231'))
        server.event(LIFECYCLE, lifecycle('00000006', '6f746872'))
        server.reply(request, '00000005')
        server.event(LIFECYCLE, lifecycle('00000005', '77656232'))
      }
    })
    const seen: string[] = []
    await fake.connection.on(domainEvents.lifecycle, ({ domain }) => seen.push(domain.name))
    await fake.settle()
    assert.deepEqual(seen, ['web1', 'web2'])
  })

  it('are dispatched by their type although their serial equals that of a call', async () => {
    await using server = await FakeLibvirtd.start({
      66: (request, fake) => {
        assert.equal(request.serial, 1)
        fake.event(LIFECYCLE, lifecycle('00000005'))
        fake.reply(request, '00000001 00000000')
      }
    })
    await using connection = await server.connect()
    assert.equal(connection.facts.hypervisor, 'TEST')
  })

  it('of different kinds with the same callback id stay apart', async () => {
    await using fake = await setUp({
      [DOMAIN_REGISTER]: '00000000',
      [NETWORK_REGISTER]: '00000000'
    })
    const seen: string[] = []
    await fake.connection.on(domainEvents.lifecycle, ({ domain }) => seen.push(`domain ${domain.name}`))
    await fake.connection.on(networkEvents.lifecycle, ({ network }) => seen.push(`network ${network.name}`))
    fake.server.event(NETWORK_LIFECYCLE, networkStarted('00000000'))
    fake.server.event(LIFECYCLE, lifecycle('00000000'))
    await fake.settle()
    assert.deepEqual(seen, ['network n0', 'domain web1'])
  })

  it('stop when the subscription is disposed, and libvirt is told once', async () => {
    await using fake = await setUp({ [DOMAIN_REGISTER]: '00000005' })
    const seen: unknown[] = []
    const subscription = await fake.connection.on(domainEvents.lifecycle, (payload) => seen.push(payload))
    await subscription[Symbol.asyncDispose]()
    await subscription[Symbol.asyncDispose]()
    fake.server.event(LIFECYCLE, lifecycle('00000005'))
    await fake.settle()
    assert.deepEqual(seen, [])
    const told = fake.server.requests(DOMAIN_DEREGISTER).map((request) => request.payload.toString('hex'))
    assert.deepEqual(told, ['00000005'])
  })

  it('need no farewell on a connection that is gone', async () => {
    await using fake = await setUp({ [DOMAIN_REGISTER]: '00000005' })
    const subscription = await fake.connection.on(domainEvents.lifecycle, () => {})
    fake.server.hangUp()
    await fake.connection.closed
    await assert.doesNotReject(async () => subscription[Symbol.asyncDispose]())
  })

  it('go on when a listener throws', async () => {
    await using fake = await setUp({ [DOMAIN_REGISTER]: '00000005' })
    const seen: string[] = []
    await fake.connection.on(domainEvents.lifecycle, ({ domain }) => {
      seen.push(domain.name)
      if (domain.name === 'web1') throw new Error('listener broke')
    })
    fake.server.event(LIFECYCLE, lifecycle('00000005', '77656231'))
    fake.server.event(LIFECYCLE, lifecycle('00000005', '77656232'))
    await fake.settle()
    assert.deepEqual(seen, ['web1', 'web2'])
    assert.deepEqual(
      fake.problems.map((problem) => problem.message),
      ['listener broke']
    )
  })

  it('that do not decode or are of another kind are reported, and the rest goes on', async () => {
    await using fake = await setUp({ [DOMAIN_REGISTER]: '00000005' })
    const seen: string[] = []
    await fake.connection.on(domainEvents.lifecycle, ({ domain }) => seen.push(domain.name))
    fake.server.event(LIFECYCLE, '00000005 00000004')
    fake.server.event(319, '00000005')
    fake.server.event(LIFECYCLE, '0000')
    fake.server.event(LIFECYCLE, lifecycle('00000005'))
    await fake.settle()
    assert.deepEqual(seen, ['web1'])
    const codes = fake.problems.map((problem) => problem instanceof ConnectionError && problem.code)
    assert.deepEqual(codes, ['E_PROTOCOL', 'E_PROTOCOL'])
  })

  it('are bounded while a registration is awaited, and a loss is reported', async () => {
    await using fake = await setUp({ [DOMAIN_REGISTER]: null })
    let seen = 0
    const subscribing = fake.connection.on(domainEvents.lifecycle, () => seen++)
    const request = await fake.server.received(DOMAIN_REGISTER)
    for (let count = 0; count < EVENTS_EARLY_MAX + 3; count++) {
      fake.server.event(LIFECYCLE, lifecycle('00000005'))
    }
    fake.server.reply(request, '00000005')
    await subscribing
    assert.equal(seen, EVENTS_EARLY_MAX)
    assert.equal(fake.problems.length, 3)
  })

  it('whose registration was given up are deregistered when it succeeds after all', async () => {
    await using fake = await setUp({ [DOMAIN_REGISTER]: null })
    const subscribing = fake.connection.on(domainEvents.lifecycle, () => {}, { deadlineMs: 50 })
    const timedOut = assert.rejects(subscribing, { code: 'E_TIMEOUT' })
    const request = await fake.server.received(DOMAIN_REGISTER)
    fake.clock.advance(50)
    await timedOut
    fake.server.reply(request, '00000009')
    const { payload } = await fake.server.received(DOMAIN_DEREGISTER)
    assert.deepEqual(payload, hex('00000009'))
  })

  it('are refused when libvirt refuses, when they are unknown, and beyond the bound', async () => {
    await using fake = await setUp({
      [DOMAIN_REGISTER]: '00000005',
      [NETWORK_REGISTER]: (request, server) =>
        server.fail(request, { code: 3, domain: 19, message: 'not supported' })
    })
    await assert.rejects(
      fake.connection.on(networkEvents.lifecycle, () => {}),
      { name: 'LibvirtError', code: 3 }
    )
    const unknown = { id: 0, message: event(9999, struct({})) }
    await assert.rejects(
      fake.connection.on(unknown, () => {}),
      { code: 'E_UNSUPPORTED' }
    )
    const subscribe = () => fake.connection.on(domainEvents.lifecycle, () => {})
    await Promise.all(Array.from({ length: SUBSCRIPTIONS_MAX }, subscribe))
    await assert.rejects(subscribe(), { code: 'E_BUSY' })
  })
})
