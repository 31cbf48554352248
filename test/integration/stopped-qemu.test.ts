// A QEMU that dies or stands still in the middle of an operation: it ends or goes on, says why, and keeps no other VM waiting.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { eventually } from './isolation/eventually.ts'
import { cannotOwnLibvirtd, LibvirtdHost, type Subject } from './libvirtd-host.ts'

describe('a QEMU in the middle of an operation', { skip: cannotOwnLibvirtd(), timeout: 840_000 }, () => {
  let host: LibvirtdHost
  let victim: Subject
  let neighbour: Subject

  before(async () => {
    host = await LibvirtdHost.open()
    victim = host.newVm('victim')
    neighbour = host.newVm('neighbour')
    for (const result of await Promise.all([host.provision(victim), host.provision(neighbour)]))
      assert.equal(result.outcome, 'done', JSON.stringify(result.error))
  })
  after(async () => {
    await host?.[Symbol.asyncDispose]()
  })

  it('is killed while it starts: the start says so or begins again, and the next one works', async () => {
    await done(victim, 'vm.stop', { force: true })
    const starting = host.do('vm.start', victim)
    process.kill(await qemu(), 'SIGKILL')
    const { outcome, error } = await starting
    if (outcome === 'failed') assert.equal(error?.code, 'E_LIBVIRT', JSON.stringify(error))
    await done(victim, 'vm.start')
    assert.equal(await stateOf(victim), 'running')
  })

  it('stands still and is to be stopped: its power is cut, and its neighbour goes on', async () => {
    const pid = await qemu()
    process.kill(pid, 'SIGSTOP')
    const stopping = host.do('vm.stop', victim, { graceMs: 1_000 })
    await neighbourGoesOn()
    const { outcome, error, value } = await stopping
    assert.equal(outcome, 'done', JSON.stringify(error))
    assert.equal(value?.forced, true)
    assert.equal(await stateOf(victim), 'shut off')
    await done(victim, 'vm.start')
  })

  it('is killed while its guest shuts down: it is stopped then', async () => {
    const stopping = host.do('vm.stop', victim, { graceMs: 120_000 })
    process.kill(await qemu(), 'SIGKILL')
    const { outcome, error } = await stopping
    assert.equal(outcome, 'done', JSON.stringify(error))
    assert.equal(await stateOf(victim), 'shut off')
    await done(victim, 'vm.start')
  })

  it('stands still and is to be torn down: nothing of it is left', async () => {
    process.kill(await qemu(), 'SIGSTOP')
    await Promise.all([done(victim, 'vm.teardown'), neighbourGoesOn()])
    await done(neighbour, 'vm.teardown')
    assert.deepEqual(await host.leftovers(), [])
    assert.deepEqual(host.bugs(), [])
    await host.assertOneEndEach()
  })

  async function done(subject: Subject, verb: string, args: Record<string, unknown> = {}): Promise<void> {
    const { outcome, error } = await host.do(verb, subject, args)
    assert.equal(outcome, 'done', `${verb} of ${subject.vm}: ${JSON.stringify(error)}\n${host.lastWords()}`)
  }

  async function neighbourGoesOn(): Promise<void> {
    await done(neighbour, 'vm.stop', { force: true })
    await done(neighbour, 'vm.start')
  }

  /** The process of the victim, once it has one. */
  async function qemu(): Promise<number> {
    await eventually(() => host.qemuOf(victim) !== undefined, `a QEMU of ${victim.vm}`)
    return host.qemuOf(victim) as number
  }

  async function stateOf({ vm }: Subject): Promise<string | undefined> {
    return (await host.virsh('domstate', vm))[0]
  }
})
