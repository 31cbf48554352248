// Keys of real encrypted VMs at a real scheduler: the state directory is lost and no disk with it; a host that keeps no key starts nothing alone.

import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import { KeyFleet } from '../support/key-fleet.ts'
import { cannotProvision, guestPath, guestSpecification } from './provision-host.ts'

const mebibyte = 1024 ** 2
/** Guests boot in seconds on a machine that nobody else uses. */
const readyMs = 600_000

describe('keys of encrypted VMs', { skip: await cannotProvision(), timeout: 2_400_000 }, () => {
  let fixture: LibvirtFixture
  let fleet: KeyFleet
  let name: string
  let address = ''
  /** Of the disks, while they are known here. */
  let passphrases: readonly string[] = []
  const wait = () => ({ signal: AbortSignal.timeout(120_000) })

  async function open(keys: 'host' | 'scheduler'): Promise<void> {
    fixture = await openLibvirtFixture()
    name = `${fixture.prefix}-kept`
    const { name: network, bridge, subnet } = fixture.network
    const settings = {
      network: { table: fixture.prefix },
      keys,
      accelerator: 'tcg',
      pool: fixture.pool,
      profiles: { starter: { network, bridge, subnet, encryption: true } },
      vmUids: { first: fixture.uid, count: 64 },
      images: { allowFileUrls: [dirname(guestPath)] }
    }
    fleet = await KeyFleet.open(fixture.directory, settings)
    await fleet.enroll()
    await fleet.startAgent()
  }

  async function close(): Promise<void> {
    await fleet?.[Symbol.asyncDispose]()
    await fixture?.dispose()
  }

  async function provision(): Promise<void> {
    const { uuid: _chosen, ...specification } = guestSpecification({
      name,
      uuid: '',
      dataDiskBytes: 16 * mebibyte,
      ready: { http: { port: 80, path: '/' }, timeoutMs: readyMs }
    })
    const { value } = await fleet.done('/v1/vms', { specification, host: fleet.hostId })
    address = String(value?.address)
  }

  /** How often the guest has booted with its data disk, as that says. Waits until it answers. */
  async function bootsOf(): Promise<unknown> {
    let boots: unknown
    await fleet.until('the guest to answer', async () => {
      try {
        const answer = await fetch(`http://${address}/`, { signal: AbortSignal.timeout(10_000) })
        boots = ((await answer.json()) as Record<string, unknown>).dataBoots
        return true
      } catch {
        // It is not up yet.
        return false
      }
    })
    return boots
  }

  const stateOf = async () => (await fixture.hypervisor.findVm(name, wait()))?.state
  const start = () => fleet.ended(`/v1/vms/${name}/start`, {})
  const stop = () => fleet.done(`/v1/vms/${name}/stop`, { force: true })
  const secrets = async () => {
    const record = await fixture.hypervisor.findVm(name, wait())
    const list = await fixture.virsh('secret-list')
    return [record?.placement.rootKey, record?.placement.dataKey].filter((id) => id && list.includes(id))
  }
  const escrowed = () =>
    fleet.until('the keys to be at the scheduler', async () => {
      const { keys } = await fleet.keys(name)
      return keys.length === 2 && keys.every(({ recipients }) => recipients.includes(fleet.recovery.kid))
    })

  describe('whose host loses its state directory', () => {
    before(() => open('host'))
    after(close)

    it('lie at the scheduler, for nobody to open but the recovery key', async () => {
      await provision()
      assert.equal(await bootsOf(), 1)
      await escrowed()
      await stop()
    })

    it('are missed after that, and the machine says what to do', async () => {
      const before = fleet.hostId
      await fleet.stopAgent()
      fleet.loseStateDirectory()
      for (const id of await secrets()) await fixture.virsh('secret-undefine', String(id))
      await fleet.api.delete(`/v1/hosts/${before}`)
      await fleet.enroll()
      await fleet.startAgent()
      await fleet.until('the VM to be listed', async () => (await fleet.vm(name)).host === fleet.hostId)
      await fleet.until(
        'the condition',
        async () => (await fleet.condition('disk-key-missing')) !== undefined
      )
      const { error } = await start()
      assert.equal(error?.code, 'E_NOT_FOUND')
      assert.match(error?.message ?? '', new RegExp(`hostlet vm recover-keys ${name}`))
      assert.equal(await stateOf(), 'stopped')
    })

    it('come back with the recovery key, and the VM boots with its old data', async () => {
      const { status, stdout, stderr } = await fleet.hostlet(
        ...['vm', 'recover-keys', name, '--key', fleet.recoveryPath]
      )
      assert.equal(status, 0, stderr)
      assert.match(stdout, /has 2 keys again, each of which opens its disk/)
      assert.equal((await start()).state, 'done')
      assert.equal(await bootsOf(), 2)
      await escrowed()
    })

    it('are destroyed everywhere with the VM', async () => {
      const { uuid } = await fleet.vm(name)
      await fleet.done(`/v1/vms/${name}`, undefined, 'DELETE')
      await fleet.until('the keys to be gone', async () => (await fleet.keys(uuid)).keys.length === 0)
    })
  })

  describe('whose host keeps no key', () => {
    before(() => open('scheduler'))
    after(close)

    it('are in no file of the host, and libvirt forgets them once the VM runs', async () => {
      await provision()
      assert.equal(await bootsOf(), 1)
      await escrowed()
      await fleet.until('libvirt to have forgotten them', async () => (await secrets()).length === 0)
      const { keys } = await fleet.keys(name)
      passphrases = keys.map(({ id }) => id)
      assert.deepEqual(fleet.holding(['"wrapped"'], ['state', 'run']), [])
      await stop()
    })

    it('are not to be had without the scheduler: nothing starts, by hand or after a host boot', async () => {
      await assert.rejects(fixture.virsh('start', name), /Secret not found|no secret with matching uuid/i)
      assert.equal((await start()).state, 'done')
      assert.equal(await bootsOf(), 2)
      await fleet.stopScheduler()
      await fleet.stopAgent()
      // What a boot of the host does: the machine is off, and what lay in memory is gone.
      await fixture.virsh('destroy', name)
      rmSync(join(fixture.directory, 'run'), { recursive: true })
      await fleet.startAgent()
      await fleet.until('the start to be tried', () =>
        fleet.lines.join('').includes('could not be started after host boot')
      )
      assert.equal(await stateOf(), 'stopped')
    })

    it('start it by themselves when the scheduler is back', async () => {
      await fleet.startScheduler()
      await fleet.until('the VM to run again', async () => (await stateOf()) === 'running')
      assert.equal(await bootsOf(), 3)
      await fleet.until(
        'the host to be connected',
        async () => (await fleet.host()).host.state === 'connected'
      )
      assert.equal(passphrases.length, 2)
      await fleet.done(`/v1/vms/${name}`, undefined, 'DELETE')
    })
  })
})
