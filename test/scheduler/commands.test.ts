// A command's whole way through the scheduler: asked for, signed, delivered, acknowledged, ended; and what goes wrong on it.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, it } from 'node:test'
import type { HostDetail, OperationReply, OperationView, VmList, VmReply } from '../../src/protocol/api.ts'
import { clockSkewMsMax } from '../../src/protocol/command.ts'
import { overdueIntervalMs } from '../../src/scheduler/housekeeping.ts'
import { unansweredMax, unansweredMs } from '../../src/scheduler/hub/delivery.ts'
import { retryBaseMs } from '../../src/scheduler/refusals.ts'
import { gibibyte, hostFacts, specification, vmSummary } from './support/samples.ts'
import type { TestAgent } from './support/test-agent.ts'
import { TestScheduler } from './support/test-scheduler.ts'

const hourMs = 3_600_000

describe("a command's way", { timeout: 60_000 }, () => {
  let scheduler: TestScheduler
  let agent: TestAgent

  beforeEach(async () => {
    scheduler = await TestScheduler.start()
    agent = await scheduler.enroll()
  })
  afterEach(() => scheduler[Symbol.asyncDispose]())

  async function create(change: Record<string, unknown> = {}, host?: string): Promise<OperationView> {
    const body = { specification: specification(change), ...(host && { host }) }
    return (await scheduler.api.post<OperationReply>('/v1/vms', body)).operation
  }

  async function operation(id: string): Promise<OperationView> {
    return (await scheduler.api.get<OperationReply>(`/v1/operations/${id}`)).operation
  }

  async function connectWithFacts(): Promise<void> {
    await agent.connect()
    agent.sendInventory()
    await agent.sync()
  }

  /** Creates a VM and has the host say that it runs. */
  async function provisioned(): Promise<void> {
    const { id } = await create()
    const { claims } = await agent.nextCommand()
    agent.acknowledge(id)
    const uuid = claims.subject?.uuid ?? ''
    agent.finish(id, { vm: vmSummary({ uuid, generation: claims.subject?.generation ?? 0 }) })
    await agent.sync()
  }

  it('goes from the request to the result, with every state on it', async () => {
    await connectWithFacts()
    const created = await create()
    assert.equal(created.verb, 'vm.provision')
    assert.equal(created.host, 'kvm-1')
    assert.equal(created.vm, 'web-1')

    const { claims } = await agent.nextCommand()
    assert.equal(claims.id, created.id)
    assert.equal(claims.verb, 'vm.provision')
    assert.equal(claims.audience, 'kvm-1')
    assert.equal(claims.expiresAt - claims.issuedAt, hourMs)
    assert.deepEqual(claims.arguments.specification, {
      ...specification(),
      uuid: claims.subject?.uuid
    })
    assert.deepEqual(claims.subject, { vm: 'web-1', uuid: claims.subject?.uuid, generation: 1 })
    assert.equal((await operation(created.id)).state, 'sent')
    const pending = (await scheduler.api.get<VmReply>('/v1/vms/web-1')).vm
    assert.equal(pending.state, 'pending')
    assert.equal(pending.operation, created.id)

    agent.acknowledge(created.id)
    agent.send({
      type: 'progress',
      command: created.id,
      at: 1,
      step: 'fetch image',
      stepIndex: 1,
      steps: 6,
      ratio: 0.5
    })
    await agent.sync()
    const running = await operation(created.id)
    assert.equal(running.state, 'running')
    assert.equal(running.step, 'fetch image')
    assert.equal(running.ratio, 0.5)
    assert.match(running.next, /hostlet op wait/)

    const waiting = scheduler.api.get<OperationReply>(`/v1/operations/${created.id}/wait?timeoutMs=60000`)
    const summary = vmSummary({ uuid: claims.subject?.uuid ?? '' })
    agent.finish(created.id, { vm: summary, address: '10.83.0.10' })
    const { operation: done } = await waiting
    assert.equal(done.state, 'done')
    assert.deepEqual(done.value, { vm: summary, address: '10.83.0.10' })
    assert.equal((await agent.next('result-ack')).command, created.id)
    const { vm } = await scheduler.api.get<VmReply>('/v1/vms/web-1')
    assert.equal(vm.state, 'running')
    assert.equal(vm.address, '10.83.0.10')
  })

  it('raises the generation with every command on a VM, also after it was removed and made anew', async () => {
    await connectWithFacts()
    await provisioned()
    const generations: (number | undefined)[] = []
    for (const path of ['stop', 'start', 'reboot']) {
      await scheduler.api.post(`/v1/vms/web-1/${path}`)
      const { claims } = await agent.nextCommand()
      agent.finish(claims.id)
      generations.push(claims.subject?.generation)
    }
    await scheduler.api.delete('/v1/vms/web-1')
    const { claims } = await agent.nextCommand()
    generations.push(claims.subject?.generation)
    agent.finish(claims.id, { vm: 'web-1', removed: [] })
    await agent.sync()
    await create()
    generations.push((await agent.nextCommand()).claims.subject?.generation)
    assert.deepEqual(generations, [2, 3, 4, 5, 6])
  })

  it('goes on above the generation that a host reports, after the store was lost', async () => {
    await agent.connect()
    agent.sendInventory({ vms: [vmSummary({ generation: 41 })] })
    await agent.sync()
    await scheduler.api.post('/v1/vms/web-1/stop', { force: true })
    const { claims } = await agent.nextCommand()
    assert.equal(claims.subject?.generation, 42)
    assert.deepEqual(claims.arguments, { vm: 'web-1', force: true })
    assert.equal((await scheduler.api.get<VmReply>('/v1/vms/web-1')).vm.wanted, 'stopped')
  })

  it('keeps the order of commands that are asked for at the same time', async () => {
    await connectWithFacts()
    await provisioned()
    await Promise.all(Array.from({ length: 20 }, () => scheduler.api.post('/v1/vms/web-1/reboot')))
    const generations: number[] = []
    for (let count = 0; count < 20; count++)
      generations.push((await agent.nextCommand()).claims.subject?.generation ?? 0)
    assert.deepEqual(
      generations,
      Array.from({ length: 20 }, (_, index) => index + 2)
    )
  })

  describe('to a host that is away', () => {
    it('is accepted, says so, and is delivered when the host comes back', async () => {
      const created = await create({}, 'kvm-1')
      assert.equal(created.state, 'waiting')
      assert.match(created.next, /Host kvm-1 is away.*delivered when it comes back, until \d{4}-/)
      await agent.connect()
      assert.equal((await agent.nextCommand()).claims.id, created.id)
    })

    it('expires in time, with a reason, and frees the name: nothing was done', async () => {
      const created = await create({}, 'kvm-1')
      scheduler.clock.jump(hourMs)
      await scheduler.clock.advance(overdueIntervalMs)
      const expired = await operation(created.id)
      assert.equal(expired.state, 'expired')
      assert.equal(expired.error?.code, 'E_UNAVAILABLE')
      assert.match(expired.next, /nothing was done. Bring the host back/)
      assert.deepEqual((await scheduler.api.get<VmList>('/v1/vms')).vms, [])
      await agent.connect()
      await agent.sync()
      assert.deepEqual(agent.unread('command'), [])
    })
  })

  describe('that was sent and not acknowledged', () => {
    it('is sent again when the host comes back, the same bytes', async () => {
      await connectWithFacts()
      const created = await create()
      const first = await agent.nextCommand()
      await agent.disconnect()
      await agent.connect()
      const second = await agent.nextCommand()
      assert.equal(second.jws, first.jws)
      agent.acknowledge(created.id, true)
      await agent.sync()
      assert.equal((await operation(created.id)).state, 'running')
    })

    it('expires with an unknown outcome, and a late result still counts', async () => {
      await connectWithFacts()
      const created = await create()
      await agent.nextCommand()
      await agent.disconnect()
      scheduler.clock.jump(hourMs + clockSkewMsMax)
      await scheduler.clock.advance(overdueIntervalMs)
      const expired = await operation(created.id)
      assert.equal(expired.state, 'expired')
      assert.equal(expired.error?.code, 'E_TIMEOUT')
      assert.match(expired.next, /unknown.*hostlet vm show web-1/)
      assert.equal((await scheduler.api.get<VmReply>('/v1/vms/web-1')).vm.state, 'pending')

      await agent.connect()
      agent.finish(created.id)
      await agent.sync()
      const done = await operation(created.id)
      assert.equal(done.state, 'done')
      assert.equal(done.error, undefined)
    })
  })

  describe('that is running', () => {
    it('is not sent again to the same agent, but to one that was restarted', async () => {
      await connectWithFacts()
      const { id } = await create()
      const { jws } = await agent.nextCommand()
      agent.acknowledge(id)
      await agent.sync()
      await agent.disconnect()
      await agent.connect()
      await agent.sync()
      assert.deepEqual(agent.unread('command'), [])

      agent.instance = randomUUID()
      await agent.connect()
      assert.equal((await agent.nextCommand()).jws, jws)
    })

    it('ends as unknown when its host stays silent for a day', async () => {
      await connectWithFacts()
      const { id } = await create()
      await agent.nextCommand()
      agent.acknowledge(id)
      await agent.sync()
      await agent.disconnect()
      scheduler.clock.jump(24 * hourMs)
      await scheduler.clock.advance(overdueIntervalMs)
      const abandoned = await operation(id)
      assert.equal(abandoned.state, 'expired')
      assert.match(abandoned.error?.message ?? '', /took the command and never told its end/)
    })
  })

  it('that is refused ends with the error of the host, and a provision leaves no VM', async () => {
    await connectWithFacts()
    const { id } = await create()
    await agent.nextCommand()
    const error = { code: 'E_CONFLICT', message: 'the name is taken by a foreign domain' } as const
    agent.refuse(id, error)
    await agent.sync()
    const refused = await operation(id)
    assert.equal(refused.state, 'failed')
    assert.deepEqual(refused.error, error)
    assert.match(refused.next, /Change what was asked for/)
    assert.deepEqual((await scheduler.api.get<VmList>('/v1/vms')).vms, [])
  })

  describe('that is refused for now', () => {
    const busy = { code: 'E_BUSY', message: '64 operations wait already.' } as const

    for (const code of ['E_BUSY', 'E_UNAVAILABLE', 'E_CAPACITY'] as const)
      it(`waits and is sent again, the same bytes, until it is taken: ${code}`, async () => {
        await connectWithFacts()
        const { id } = await create()
        const { jws } = await agent.nextCommand()
        for (const waitMs of [retryBaseMs, 2 * retryBaseMs]) {
          agent.refuse(id, { code, message: 'not now.' })
          await agent.sync()
          const waiting = await operation(id)
          assert.equal(waiting.state, 'waiting')
          assert.equal(waiting.error, undefined)
          assert.match(waiting.next, new RegExp(`${code}: not now.*sent again at .* until `))
          assert.deepEqual(agent.unread('command'), [])
          await scheduler.clock.advance(waitMs + 100)
          assert.equal((await agent.nextCommand()).jws, jws)
        }
        agent.acknowledge(id)
        agent.finish(id)
        await agent.sync()
        assert.equal((await operation(id)).state, 'done')
      })

    it('is sent again after the host reconnected, not before its time', async () => {
      await connectWithFacts()
      const { id } = await create()
      await agent.nextCommand()
      agent.refuse(id, busy)
      await agent.sync()
      await agent.disconnect()
      await agent.connect()
      await agent.sync()
      assert.deepEqual(agent.unread('command'), [])
      scheduler.clock.jump(retryBaseMs)
      agent.heartbeat()
      assert.equal((await agent.nextCommand()).claims.id, id)
    })

    it('keeps what is asked of the same VM later behind it, and lets others pass', async () => {
      await connectWithFacts()
      await provisioned()
      const { operation: stop } = await scheduler.api.post<OperationReply>('/v1/vms/web-1/stop')
      await agent.nextCommand()
      agent.refuse(stop.id, busy)
      await agent.sync()
      const { operation: start } = await scheduler.api.post<OperationReply>('/v1/vms/web-1/start')
      const { operation: other } = await scheduler.api.post<OperationReply>('/v1/hosts/kvm-1/refresh')
      assert.equal((await agent.nextCommand()).claims.id, other.id)
      await scheduler.clock.advance(retryBaseMs + 100)
      assert.equal((await agent.nextCommand()).claims.id, stop.id)
      assert.equal((await agent.nextCommand()).claims.id, start.id)
    })

    it('until it expires ends with what the host said: nothing was done', async () => {
      await connectWithFacts()
      const { id } = await create()
      await agent.nextCommand()
      agent.refuse(id, busy)
      await agent.sync()
      await agent.disconnect()
      scheduler.clock.jump(hourMs)
      await scheduler.clock.advance(overdueIntervalMs)
      const expired = await operation(id)
      assert.equal(expired.state, 'expired')
      assert.equal(expired.error?.code, 'E_BUSY')
      assert.match(expired.error?.message ?? '', /64 operations wait already.*nothing was done/i)
      assert.deepEqual((await scheduler.api.get<VmList>('/v1/vms')).vms, [])
    })

    it('survives a restart of the scheduler', async () => {
      await connectWithFacts()
      const { id } = await create()
      await agent.nextCommand()
      agent.refuse(id, busy)
      await agent.sync()
      await scheduler.stop()
      await scheduler.startAgain()
      assert.equal((await operation(id)).state, 'waiting')
      scheduler.clock.jump(retryBaseMs)
      await agent.connect()
      assert.equal((await agent.nextCommand()).claims.id, id)
    })
  })

  it('that is refused unread is sent again when it stays unanswered', async () => {
    await connectWithFacts()
    const { id } = await create()
    const { jws } = await agent.nextCommand()
    agent.refuse(undefined, { code: 'E_BUSY', message: 'the agent takes no more commands now' })
    await agent.sync()
    assert.equal((await operation(id)).state, 'sent')
    scheduler.clock.jump(unansweredMs)
    agent.heartbeat()
    assert.equal((await agent.nextCommand()).jws, jws)
  })

  it('goes out with no more others than an agent looks at, in order', async () => {
    const count = unansweredMax + 3
    const ids: string[] = []
    for (let at = 0; at < count; at++)
      ids.push((await scheduler.api.post<OperationReply>('/v1/hosts/kvm-1/refresh')).operation.id)
    await agent.connect()
    const seen: string[] = []
    for (let at = 0; at < unansweredMax; at++) seen.push((await agent.nextCommand()).claims.id)
    await agent.sync()
    assert.deepEqual(agent.unread('command'), [])
    agent.acknowledge(seen[0] ?? '')
    seen.push((await agent.nextCommand()).claims.id)
    agent.finish(seen[1] ?? '')
    seen.push((await agent.nextCommand()).claims.id)
    agent.refuse(seen[2], { code: 'E_UNSUPPORTED', message: 'x' })
    seen.push((await agent.nextCommand()).claims.id)
    assert.deepEqual(seen, ids)
  })

  it('that fails keeps a VM that its host still reports', async () => {
    await connectWithFacts()
    const { id } = await create()
    const { claims } = await agent.nextCommand()
    agent.acknowledge(id)
    agent.sendInventory({ vms: [vmSummary({ uuid: claims.subject?.uuid ?? '', state: 'stopped' })] })
    agent.fail(id, { code: 'E_TIMEOUT', message: 'the guest did not answer' })
    await agent.sync()
    assert.equal((await operation(id)).state, 'failed')
    assert.equal((await scheduler.api.get<VmReply>('/v1/vms/web-1')).vm.state, 'stopped')
    agent.sendInventory()
    await agent.sync()
    assert.deepEqual((await scheduler.api.get<VmList>('/v1/vms')).vms, [])
  })

  it('that has ended stays as it ended, whatever is said of it later', async () => {
    await connectWithFacts()
    const { id } = await create()
    await agent.nextCommand()
    agent.finish(id)
    agent.refuse(id, { code: 'E_STALE', message: 'x' })
    agent.refuse(id, { code: 'E_BUSY', message: 'x' })
    agent.acknowledge(id, true)
    agent.send({ type: 'progress', command: id, at: 1, step: 'late', stepIndex: 0, steps: 1 })
    agent.fail(id, { code: 'E_TIMEOUT', message: 'x' })
    await agent.sync()
    const { state, error, step } = await operation(id)
    assert.deepEqual([state, error, step], ['done', undefined, undefined])
  })

  it('that was taken and is refused later was lost with the journal of its host: the outcome is unknown', async () => {
    await connectWithFacts()
    const { id } = await create()
    await agent.nextCommand()
    agent.acknowledge(id)
    await agent.sync()
    agent.instance = randomUUID()
    await agent.connect()
    await agent.nextCommand()
    agent.refuse(id, { code: 'E_UNAVAILABLE', message: 'the journal cannot be read' })
    await agent.sync()
    assert.equal((await operation(id)).state, 'running')
    agent.refuse(id, { code: 'E_STALE', message: 'the command expired' })
    await agent.sync()
    const { state, error } = await operation(id)
    assert.equal(state, 'failed')
    assert.equal(error?.code, 'E_INTERRUPTED')
    assert.match(error?.message ?? '', /lost its record.*hostlet vm show web-1/)
    assert.equal((await scheduler.api.get<VmReply>('/v1/vms/web-1')).vm.state, 'pending')
  })

  it('made a VM that its host has lost since: it is missing, and can be removed', async () => {
    await connectWithFacts()
    await provisioned()
    agent.sendInventory()
    await agent.sync()
    const { vm } = await scheduler.api.get<VmReply>('/v1/vms/web-1')
    assert.equal(vm.state, 'missing')
    assert.match(vm.reason, /hostlet vm rm web-1/)
    await scheduler.api.delete('/v1/vms/web-1')
    const { claims } = await agent.nextCommand()
    agent.finish(claims.id, { vm: 'web-1', removed: [] })
    await agent.sync()
    assert.deepEqual((await scheduler.api.get<VmList>('/v1/vms')).vms, [])
  })

  it('is stored before its result is acknowledged, and survives a restart', async () => {
    await connectWithFacts()
    const { id } = await create()
    await agent.nextCommand()
    agent.acknowledge(id)
    agent.finish(id, { note: 'kept' })
    assert.equal((await agent.next('result-ack')).command, id)
    // What another process reads at this moment is what a crash would leave.
    const reader = new DatabaseSync(join(scheduler.directory, 'scheduler.db'), { readOnly: true })
    assert.equal(reader.prepare('SELECT state FROM commands WHERE id = ?').get(id)?.state, 'done')
    reader.close()
    await scheduler.stop()
    await scheduler.startAgain()
    const done = await operation(id)
    assert.equal(done.state, 'done')
    assert.deepEqual(done.value, { note: 'kept' })
  })

  it('waits in the store while the scheduler is down, and the first result stays', async () => {
    const { id } = await create({}, 'kvm-1')
    await scheduler.stop()
    await scheduler.startAgain()
    await agent.connect()
    assert.equal((await agent.nextCommand()).claims.id, id)
    agent.acknowledge(id)
    agent.finish(id, { first: true })
    agent.finish(id, { first: false })
    await agent.sync()
    assert.deepEqual((await operation(id)).value, { first: true })
  })

  describe('to a host that is revoked', () => {
    it('ends at once: what was not sent was not done, and of the rest the outcome is unknown', async () => {
      await connectWithFacts()
      const { id: taken } = await create({ name: 'taken' })
      await agent.nextCommand()
      agent.acknowledge(taken)
      const { id: refused } = await create({ name: 'refused' })
      await agent.nextCommand()
      agent.refuse(refused, { code: 'E_BUSY', message: 'full' })
      await agent.sync()
      await scheduler.api.delete('/v1/hosts/kvm-1')
      const [first, second] = [await operation(taken), await operation(refused)]
      assert.deepEqual([first.state, first.error?.code], ['failed', 'E_INTERRUPTED'])
      assert.deepEqual([second.state, second.error?.code], ['failed', 'E_CONFLICT'])
      assert.match(second.error?.message ?? '', /nothing was done/)
      const { vms } = await scheduler.api.get<VmList>('/v1/vms')
      assert.deepEqual(
        vms.map(({ name }) => name),
        ['taken']
      )
    })

    it('is refused, with both ways on', async () => {
      await connectWithFacts()
      await provisioned()
      await scheduler.api.delete('/v1/hosts/kvm-1')
      const error = await scheduler.api.failure({ method: 'DELETE', path: '/v1/vms/web-1' })
      assert.equal(error.code, 'E_CONFLICT')
      assert.match(error.message, /hostlet host token.*hostlet vm forget --host kvm-1/)
    })
  })

  describe('forgetting a VM', () => {
    const forget = { method: 'POST', path: '/v1/vms/web-1/forget', json: {} }

    it('is refused while its host is not revoked, away or not', async () => {
      await connectWithFacts()
      await provisioned()
      await agent.disconnect()
      const error = await scheduler.api.failure(forget)
      assert.equal(error.code, 'E_CONFLICT')
      assert.match(error.message, /hostlet vm rm web-1.*hostlet host rm kvm-1/)
      assert.equal((await scheduler.api.get<VmList>('/v1/vms')).vms.length, 1)
    })

    it('frees its name, for a VM of a newer generation', async () => {
      await connectWithFacts()
      await provisioned()
      await scheduler.api.delete('/v1/hosts/kvm-1')
      const { vm } = await scheduler.api.get<VmReply>('/v1/vms/web-1')
      assert.match(vm.reason, /kvm-1 is revoked.*hostlet vm forget web-1/)
      await scheduler.api.post(forget.path)
      assert.equal((await scheduler.api.failure(forget)).code, 'E_NOT_FOUND')
      const other = await scheduler.enroll('kvm-2')
      await other.connect()
      other.sendInventory({ facts: hostFacts('kvm-2') })
      await other.sync()
      await create()
      assert.equal((await other.nextCommand()).claims.subject?.generation, 2)
    })

    it('is undone when its host enrolls anew and still has it', async () => {
      await connectWithFacts()
      await provisioned()
      const { uuid } = (await scheduler.api.get<VmReply>('/v1/vms/web-1')).vm
      await scheduler.api.delete('/v1/hosts/kvm-1')
      await scheduler.api.post(forget.path)
      const anew = await scheduler.enroll('kvm-1')
      await anew.connect()
      anew.sendInventory({ vms: [vmSummary({ uuid })] })
      await anew.sync()
      assert.equal((await scheduler.api.get<VmReply>('/v1/vms/web-1')).vm.host, anew.id)
    })
  })

  it('that has a host or a VM looked at anew shows at once what was seen', async () => {
    await connectWithFacts()
    await provisioned()
    const known = (await scheduler.api.get<VmReply>('/v1/vms/web-1')).vm
    await scheduler.api.post('/v1/vms/web-1/refresh')
    const look = await agent.nextCommand()
    assert.deepEqual([look.claims.verb, look.claims.arguments], ['vm.state', { vm: 'web-1' }])
    agent.finish(look.claims.id, { vm: vmSummary({ uuid: known.uuid, state: 'paused' }) })
    await scheduler.api.post('/v1/hosts/kvm-1/refresh')
    const facts = { ...hostFacts('kvm-1'), poolAvailableBytes: 1_234 }
    agent.finish((await agent.nextCommand()).claims.id, { facts })
    await agent.sync()
    assert.equal((await scheduler.api.get<VmReply>('/v1/vms/web-1')).vm.state, 'paused')
    const { host } = await scheduler.api.get<HostDetail>('/v1/hosts/kvm-1')
    assert.equal(host.facts?.poolAvailableBytes, 1_234)
    await scheduler.api.post('/v1/hosts/kvm-1/refresh')
    agent.finish((await agent.nextCommand()).claims.id, { facts: { ...facts, hostId: 'kvm-2' } })
    await agent.sync()
    assert.deepEqual((await scheduler.api.get<HostDetail>('/v1/hosts/kvm-1')).host.facts, facts)
  })

  it('whose result comes late does not hide what the host has seen since', async () => {
    await connectWithFacts()
    await provisioned()
    const { operation: reboot } = await scheduler.api.post<OperationReply>('/v1/vms/web-1/reboot')
    const { claims } = await agent.nextCommand()
    agent.acknowledge(reboot.id)
    await agent.disconnect()
    await agent.connect()
    const [summary, at] = [vmSummary({ uuid: claims.subject?.uuid ?? '' }), Date.now()]
    agent.sendInventory({ at, vms: [{ ...summary, state: 'crashed' }] })
    agent.finish(reboot.id, { vm: summary }, at - 1)
    await agent.sync()
    assert.equal((await operation(reboot.id)).state, 'done')
    assert.equal((await scheduler.api.get<VmReply>('/v1/vms/web-1')).vm.state, 'crashed')
  })

  it('of one host cannot be touched by another', async () => {
    const other = await scheduler.enroll('kvm-2')
    await connectWithFacts()
    await other.connect()
    const { id } = await create()
    await agent.nextCommand()
    other.acknowledge(id)
    other.send({ type: 'progress', command: id, at: 1, step: 'x', stepIndex: 0, steps: 1 })
    for (const code of ['E_BUSY', 'E_CONFLICT'] as const) other.refuse(id, { code, message: 'x' })
    other.finish(id)
    // It may forget it: it is what a machine did under an identity that it has no more.
    assert.equal((await other.next('result-ack')).command, id)
    await other.sync()
    const untouched = await operation(id)
    assert.equal(untouched.state, 'sent')
    assert.equal(untouched.step, undefined)
  })

  describe('placement', () => {
    it('takes the connected host with most free memory', async () => {
      const large = await scheduler.enroll('kvm-2')
      await scheduler.enroll('kvm-3-away')
      await agent.connect()
      await large.connect()
      agent.sendInventory({ facts: hostFacts(agent.id, 4 * gibibyte) })
      large.sendInventory({ facts: hostFacts(large.id, 8 * gibibyte) })
      await agent.sync()
      await large.sync()
      const hosts: string[] = []
      for (const name of ['a', 'b', 'c']) hosts.push((await create({ name, memoryBytes: 3 * gibibyte })).host)
      assert.deepEqual(hosts, ['kvm-2', 'kvm-2', 'kvm-1'])
    })

    it('says what is missing when no host has room, and when none is there', async () => {
      const failure = () =>
        scheduler.api.failure({
          method: 'POST',
          path: '/v1/vms',
          json: { specification: specification({ memoryBytes: 64 * gibibyte }) }
        })
      assert.equal((await failure()).code, 'E_UNAVAILABLE')
      await connectWithFacts()
      const full = await failure()
      assert.equal(full.code, 'E_CAPACITY')
      assert.match(
        full.message,
        /kvm-1 comes nearest: it has 16\.0 GiB of memory left, the VM wants 64\.0 GiB/
      )
      assert.equal(full.status, 507)
    })

    it('does not send an agent a verb that it does not know', async () => {
      await agent.dial()
      agent.send({ ...agent.hello(), verbs: ['vm.list'] })
      await agent.next('welcome')
      const failure = await scheduler.api.failure({
        method: 'POST',
        path: '/v1/vms',
        json: { specification: specification(), host: 'kvm-1' }
      })
      assert.equal(failure.code, 'E_UNSUPPORTED')
      assert.match(failure.message, /kvm-1, version 0.1.0, does not know vm.provision/)
    })
  })

  it('asks hosts and VMs for what changes nothing, without a generation', async () => {
    await agent.connect()
    agent.sendInventory({ vms: [vmSummary()] })
    await agent.sync()
    const image = { url: 'file:///srv/a.qcow2', sha256: 'b'.repeat(64), format: 'qcow2' }
    await scheduler.api.post('/v1/hosts/kvm-1/images', image)
    await scheduler.api.post('/v1/hosts/kvm-1/refresh')
    await scheduler.api.post('/v1/vms/web-1/refresh')
    const seen = []
    for (let count = 0; count < 3; count++) {
      const { verb, subject, arguments: given } = (await agent.nextCommand()).claims
      seen.push({ verb, subject, given })
    }
    assert.deepEqual(seen, [
      { verb: 'image.prefetch', subject: undefined, given: { image } },
      { verb: 'host.facts', subject: undefined, given: {} },
      { verb: 'vm.state', subject: undefined, given: { vm: 'web-1' } }
    ])
  })

  describe('with an Idempotency-Key', () => {
    it('is made once, whatever is asked again, also at the same time', async () => {
      await connectWithFacts()
      const ask = () =>
        scheduler.api.post<OperationReply>(
          '/v1/vms',
          { specification: specification() },
          {
            headers: { 'idempotency-key': 'deploy-42' }
          }
        )
      const replies = await Promise.all([ask(), ask(), ask()])
      replies.push(await ask())
      assert.equal(new Set(replies.map((reply) => reply.operation.id)).size, 1)
    })

    it('cannot be used for something else, and is nobody else’s', async () => {
      await connectWithFacts()
      const headers = { 'idempotency-key': 'deploy-43' }
      const json = { specification: specification() }
      await scheduler.api.post('/v1/vms', json, { headers })
      const other = await scheduler.api.failure({
        method: 'POST',
        path: '/v1/vms',
        json: { specification: specification({ cpus: 2 }) },
        headers
      })
      assert.equal(other.code, 'E_CONFLICT')
      assert.match(other.message, /Idempotency-Key/)
      const { text } = await scheduler.api.post<{ text: string }>('/v1/keys', { tier: 'manage' })
      const stranger = await scheduler
        .apiWith(text)
        .failure({ method: 'POST', path: '/v1/vms', json, headers })
      assert.match(stranger.message, /a VM named web-1 exists already/)
    })
  })
})
