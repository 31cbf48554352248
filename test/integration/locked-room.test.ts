// What a guest's agent is asked over the life of its VM, noted by a stand-in in the guest that does whatever it is told.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { guestCommands } from '../../src/agent/host/guest-commands.ts'
import type { Host } from '../../src/agent/host/host.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { succeed } from '../agent/verbs/bench.ts'
import { wait } from '../contract/hypervisor.contract.ts'
import { type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import { withUserData } from '../support/sealed-seed.ts'
import { askGuest, cannotProvision, guestSpecification, hostOf, setupOf } from './provision-host.ts'

/** How libvirt itself begins to talk to an agent. */
const libvirtsOwn = ['guest-sync', 'guest-sync-delimited']

describe("what a guest's agent is asked", { skip: await cannotProvision(), timeout: 300_000 }, () => {
  let fixture: LibvirtFixture
  let host: Host
  let name: string
  let address: string
  let generation = 0
  const uuid = randomUUID()
  const subject = () => ({ subject: { vm: name, uuid, generation: ++generation } })

  before(async () => {
    fixture = await openLibvirtFixture()
    host = await hostOf(fixture.hypervisor, setupOf(fixture))
    name = `${fixture.prefix}-room`
  })
  after(async () => {
    await host?.close()
    await fixture?.dispose()
  })

  it('is to freeze and to thaw, whatever is done to the VM, and nothing else', async () => {
    const asked = guestSpecification({ name, uuid, dataDiskBytes: 16 * 1024 ** 2 })
    const key = host.keys.hostKey.publicKey
    const specification = await withUserData(asked, '#cloud-config\n# record-agent\n', key)
    address = String((await succeed(host, 'vm.provision', { specification }, subject())).address)
    await agentConnected()
    await freezeAndThaw('first')
    await succeed(host, 'vm.state', { vm: name })
    await succeed(host, 'vm.list', {})
    await host.hypervisor.counters(wait())
    await succeed(host, 'vm.reboot', { vm: name }, subject())
    await askGuest(address)
    await succeed(host, 'vm.stop', { vm: name }, subject())
    await succeed(host, 'vm.start', { vm: name }, subject())
    await askGuest(address)
    await agentConnected()
    await freezeAndThaw('second')
    const commands = await recorded()
    assert.deepEqual(
      [...new Set(commands)].filter((command) => !libvirtsOwn.includes(command)).sort(),
      guestCommands.toSorted(),
      commands.join(' ')
    )
    const count = (command: string) => commands.filter((each) => each === command).length
    assert.equal(count('guest-fsfreeze-freeze'), 2)
    assert.ok(count('guest-fsfreeze-thaw') >= 2)
    await succeed(host, 'vm.teardown', { vm: name }, subject())
  })

  it('would be noticed if it were more', async () => {
    const specification = guestSpecification({ name: `${name}-2`, uuid: randomUUID() })
    const key = host.keys.hostKey.publicKey
    const sealed = await withUserData(specification, '#cloud-config\n# record-agent\n', key)
    const about = { subject: { vm: sealed.name, uuid: sealed.uuid, generation: 1 } }
    address = String((await succeed(host, 'vm.provision', { specification: sealed }, about)).address)
    await agentConnected(sealed.name)
    await fixture.virsh('qemu-agent-command', sealed.name, '{"execute":"guest-get-users"}')
    assert.ok((await recorded()).includes('guest-get-users'))
  })

  async function freezeAndThaw(snapshot: string): Promise<void> {
    const request = {
      roles: ['root', 'data'],
      checkpoint: snapshot,
      since: null,
      snapshot,
      freezeMs: 20_000
    } as const
    const job = await fixture.hypervisor.beginBackup(name, request, wait())
    assert.equal(job.consistency, 'frozen', String(job.freezeFault))
    await job.end({ ...wait(), keepCheckpoint: false })
  }

  async function agentConnected(vm = name): Promise<void> {
    const signal = AbortSignal.timeout(120_000)
    while (!/guest_agent\.0' state='connected'/.test(await fixture.virsh('dumpxml', vm)))
      await systemClock.sleep(300, signal)
  }

  async function recorded(): Promise<string[]> {
    const answer = await fetch(`http://${address}/agent-commands`, { signal: wait().signal })
    assert.equal(answer.status, 200)
    return (await answer.text()).trim().split('\n')
  }
})
