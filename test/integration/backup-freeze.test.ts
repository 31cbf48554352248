// Freezing real guests for their backup: by QEMU's agent, by one that hangs, and after an agent of ours that was killed.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { after, before, describe, it } from 'node:test'
import type { BackupJob } from '../../src/agent/host/backup-port.ts'
import type { Host } from '../../src/agent/host/host.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { succeed } from '../agent/verbs/bench.ts'
import { wait } from '../contract/hypervisor.contract.ts'
import { type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import { withUserData } from '../support/sealed-seed.ts'
import { cannotProvision, guestSpecification, hostOf, setupOf } from './provision-host.ts'

describe('freezing a guest for its backup', { skip: await cannotProvision(), timeout: 120_000 }, () => {
  let fixture: LibvirtFixture
  let host: Host
  const vms = new Map<string, { name: string; address: string }>()

  before(async () => {
    fixture = await openLibvirtFixture()
    host = await hostOf(fixture.hypervisor, setupOf(fixture))
    await Promise.all([provision('obedient'), provision('hanging', '#cloud-config\n# hang-agent\n')])
  })
  after(async () => {
    await host?.close()
    await fixture?.dispose()
  })

  it('has its file systems at rest at the instant, and writing again afterwards', async () => {
    const { name, address } = vmOf('obedient')
    await agentConnected(name)
    const job = await begin(name, { snapshot: 'frozen', freezeMs: 10_000 })
    assert.equal(job.consistency, 'frozen')
    assert.equal(job.freezeFault, undefined)
    assert.match(await written(address), /^[0-9a-f]{64}$/)
    await job.end({ ...wait(), keepCheckpoint: false })
  })

  it('does not freeze where that was not asked for', async () => {
    const { name } = vmOf('obedient')
    const job = await begin(name, { snapshot: 'plain' })
    assert.equal(job.consistency, 'crash')
    assert.equal(job.freezeFault, undefined)
    await job.end({ ...wait(), keepCheckpoint: false })
  })

  it('takes the backup as after a power cut when the agent in the guest hangs, and thaws all the same', async () => {
    const { name, address } = vmOf('hanging')
    await agentConnected(name)
    const job = await begin(name, { snapshot: 'hung', freezeMs: 1_000 })
    assert.equal(job.consistency, 'crash')
    assert.match(job.freezeFault ?? '', /freez/)
    assert.match(await written(address), /^[0-9a-f]{64}$/)
    await job.end({ ...wait(), keepCheckpoint: false })
  })

  it('is taken back after an agent that was killed in the middle of it', async () => {
    const { name, address } = vmOf('obedient')
    await fixture.virsh('domfsfreeze', name)
    assert.deepEqual(await fixture.hypervisor.clearBackup(name, [], wait()), ['frozen file systems'])
    assert.match(await written(address), /^[0-9a-f]{64}$/)
    assert.deepEqual(await fixture.hypervisor.clearBackup(name, [], wait()), [])
  })

  it('says so when no agent answers in the guest', async () => {
    const { name } = vmOf('obedient')
    await fixture.hypervisor.reset(name, wait())
    const job = await begin(name, { snapshot: 'away', freezeMs: 1_000 })
    assert.equal(job.consistency, 'crash')
    assert.match(job.freezeFault ?? '', /no guest agent/)
    await job.end({ ...wait(), keepCheckpoint: false })
  })

  it('ends with a guest that shuts down by itself', async () => {
    const { name } = vmOf('hanging')
    const job = await begin(name, { snapshot: 'goodbye' })
    const lost = once(job.signal, 'abort', wait())
    await fixture.hypervisor.pressPowerButton(name, wait())
    await lost
    assert.match(String(job.signal.reason), /VM .* (shut down|stopped) during its backup/)
    await job.end({ ...wait(), keepCheckpoint: false })
    const { signal } = wait()
    while ((await fixture.hypervisor.findVm(name, { signal }))?.state !== 'stopped')
      await systemClock.sleep(200, signal)
  })

  async function provision(kind: string, userData?: string): Promise<void> {
    const vm = { name: `${fixture.prefix}-${kind}`, uuid: randomUUID() }
    const asked = guestSpecification({ ...vm, dataDiskBytes: 16 * 1024 ** 2 })
    const key = host.keys.hostKey.publicKey
    const specification = userData === undefined ? asked : await withUserData(asked, userData, key)
    const subject = { vm: vm.name, uuid: vm.uuid, generation: 1 }
    const value = await succeed(host, 'vm.provision', { specification }, { subject })
    vms.set(kind, { name: vm.name, address: String(value.address) })
  }

  function vmOf(kind: string): { name: string; address: string } {
    const vm = vms.get(kind)
    assert.ok(vm)
    return vm
  }

  function begin(vm: string, request: { snapshot: string; freezeMs?: number }): Promise<BackupJob> {
    const { snapshot } = request
    const whole = { roles: ['root', 'data'], checkpoint: snapshot, since: null, ...request } as const
    return fixture.hypervisor.beginBackup(vm, whole, wait())
  }

  async function agentConnected(vm: string): Promise<void> {
    const { signal } = wait()
    const isConnected = async () =>
      /guest_agent\.0' state='connected'/.test(await fixture.virsh('dumpxml', vm))
    while (!(await isConnected())) await systemClock.sleep(200, signal)
  }
})

/** Has the guest write to its data disk and flush it, which a frozen one does not come to the end of. */
async function written(address: string): Promise<string> {
  const answer = await fetch(`http://${address}/cgi-bin/write?mib=1&file=frozen`, { signal: wait().signal })
  return (await answer.text()).trim()
}
