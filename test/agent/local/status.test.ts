// What a whole agent tells on its socket: with everything there, without its scheduler, without libvirt, with operations that wait.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { LocalHost } from '../../support/local-host.ts'

describe('the state that an agent tells on its host', { timeout: 120_000 }, () => {
  let host: LocalHost

  before(async () => {
    host = await LocalHost.start()
  })
  after(async () => await host[Symbol.asyncDispose]())

  it('is that of its connection, its VMs and its certificate', async () => {
    const status = await host.until(
      ({ scheduler, vms, sample }) =>
        scheduler.state === 'connected' && vms.length > 0 && sample !== undefined
    )
    assert.equal(status.host, 'host-1')
    assert.deepEqual(status.libvirt, { state: 'connected' })
    assert.deepEqual(
      status.vms.map(({ name, state, wanted }) => [name, state, wanted]),
      [['web-1', 'stopped', 'stopped']]
    )
    assert.ok((status.certificate.expiresAt ?? 0) > Date.now())
    assert.ok((status.certificate.renewsAt ?? 0) > Date.now())
    assert.deepEqual(status.operations, [])
  })

  it('says what runs, what waits for it, and tells the scheduler the same', async () => {
    host.standStill()
    const first = await host.command('vm.start', 2)
    const second = await host.command('vm.stop', 3)
    const { operations } = await host.until(({ operations: all }) =>
      all.some(({ step }) => step !== undefined)
    )
    assert.deepEqual(
      operations.map(({ id, verb, vm, state, step, steps }) => ({ id, verb, vm, state, step, steps })),
      [
        { id: first, verb: 'vm.start', vm: 'web-1', state: 'running', step: 'have it run', steps: 2 },
        { id: second, verb: 'vm.stop', vm: 'web-1', state: 'waiting', step: undefined, steps: undefined }
      ]
    )
    const { since: _since, ...wait } = operations[1]?.wait ?? { since: 0 }
    assert.deepEqual(wait, {
      kind: 'lock',
      what: 'VM web-1',
      holder: first,
      holderVerb: 'vm.start',
      ahead: 0
    })
    const { scheduler } = host.fleet
    await scheduler.until(() => scheduler.of('heartbeat').some(({ waits }) => waits?.[0]?.command === second))
    host.goOn()
    await host.ended(second)
    await host.until(({ operations: all }) => all.length === 0)
    await scheduler.until(() => scheduler.of('heartbeat').at(-1)?.waits === undefined)
  })

  it('keeps operations that have ended, by id and by VM', async () => {
    const { operations } = await host.operations('vm=web-1')
    assert.deepEqual(
      operations.map(({ verb }) => verb),
      ['vm.stop', 'vm.start']
    )
    const [newest] = operations
    assert.equal(newest?.state, 'done')
    assert.ok((newest?.finishedAt ?? 0) >= (newest?.acceptedAt ?? Number.NaN))
    assert.deepEqual(await host.operations(`id=${newest?.id}`), { operations: [newest] })
    await assert.rejects(host.operations('id=none'), { code: 'E_NOT_FOUND', message: /hostlet logs none/ })
    await assert.rejects(host.operations(''), { code: 'E_BAD_REQUEST' })
  })

  it('tells the VMs as they were last seen while libvirt is away, and why it is', async () => {
    host.standStill()
    const start = await host.command('vm.start', 4)
    await host.until(({ operations: [one] }) => one?.step !== undefined)
    host.hypervisor.setStatus('away')
    const status = await host.status()
    assert.equal(status.libvirt.state, 'away')
    assert.match(status.libvirt.reason ?? '', /a test said so/)
    assert.deepEqual(
      status.vms.map(({ name }) => name),
      ['web-1']
    )
    const [operation] = status.operations
    assert.equal(operation?.id, start)
    assert.equal(operation?.wait?.kind, 'libvirt')
    host.goOn()
    host.hypervisor.setStatus('connected')
    await host.ended(start)
  })

  it('says since when and why the scheduler is away, and when it is tried again', async () => {
    await host.fleet.scheduler[Symbol.asyncDispose]()
    const { scheduler } = await host.until(
      ({ scheduler: { state, retryAt } }) => state === 'away' && retryAt !== undefined
    )
    assert.ok((scheduler.reason ?? '').length > 0)
    assert.ok(scheduler.since <= (scheduler.retryAt ?? 0))
  })

  it('is gone with the agent', async () => {
    await host.stop()
    assert.equal(existsSync(host.path), false)
    await assert.rejects(host.status(), { code: 'E_UNAVAILABLE', message: /no agent runs on this host/ })
  })
})
