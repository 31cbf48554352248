// Keys of disks between a whole agent and a real scheduler, on a hypervisor in memory: a lost state directory, and a host that keeps no key itself.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { MemoryNft } from '../../../src/agent/firewall/memory-nft.ts'
import { MemoryHypervisor } from '../../../src/agent/host/memory-hypervisor.ts'
import { createPrivateKey, publicHalf } from '../../../src/agent/keys/jwk.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { KeyFleet } from '../../support/key-fleet.ts'

const image = Buffer.alloc(64 * 1024, 'image')

describe('keys of disks', { timeout: 600_000 }, () => {
  let directory: string
  let hypervisor: MemoryHypervisor
  let fleet: KeyFleet

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-keys-'))
    hypervisor = new MemoryHypervisor({ clock: systemClock })
    writeFileSync(join(directory, 'small.img'), image)
  })
  afterEach(async () => {
    await fleet?.[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true })
  })

  async function open(keys: 'host' | 'scheduler'): Promise<void> {
    const settings = { keys, images: { allowFileUrls: [directory] } }
    fleet = await KeyFleet.open(directory, settings, { hypervisor, nft: new MemoryNft() })
    await fleet.enroll()
    await fleet.startAgent()
  }

  const specification = () => ({
    name: 'web-1',
    profile: 'starter',
    image: {
      url: `file://${join(directory, 'small.img')}`,
      sha256: createHash('sha256').update(image).digest('hex'),
      format: 'raw'
    },
    cpus: 1,
    memoryBytes: 64 * 1024 ** 2,
    rootDiskBytes: 1024 ** 2,
    dataDiskBytes: 1024 ** 2
  })
  const provision = () => fleet.done('/v1/vms', { specification: specification(), host: fleet.hostId })
  const escrowed = () =>
    fleet.until('the keys to be at the scheduler', async () => {
      const { keys } = await fleet.keys('web-1')
      return keys.length === 2 && keys.every(({ recipients }) => recipients.includes(fleet.recovery.kid))
    })
  const start = () => fleet.ended('/v1/vms/web-1/start', {})
  const stop = () => fleet.done('/v1/vms/web-1/stop', { force: true })

  it('outlive a state directory: they come back with the recovery key, each tried on its disk', async () => {
    await open('host')
    await provision()
    await escrowed()
    const passphrases = [...hypervisor.secrets.values()]
    assert.equal(passphrases.length, 2)
    assert.deepEqual(fleet.holding(passphrases), [])
    await stop()
    const before = fleet.hostId
    await fleet.stopAgent()
    fleet.loseStateDirectory()
    hypervisor.secrets.clear()
    await fleet.api.delete(`/v1/hosts/${before}`)
    await fleet.enroll()
    await fleet.startAgent()
    assert.notEqual(fleet.hostId, before)
    await fleet.until(
      'the VM to have moved over',
      async () => (await fleet.vm('web-1')).host === fleet.hostId
    )
    await fleet.until('the condition', async () => (await fleet.condition('disk-key-missing')) !== undefined)
    assert.match((await fleet.condition('disk-key-missing')) ?? '', /hostlet vm recover-keys web-1/)
    const { error } = await start()
    assert.equal(error?.code, 'E_NOT_FOUND')
    assert.match(error?.message ?? '', /hostlet vm recover-keys web-1 --key/)

    writeFileSync(join(directory, 'other.jwk'), JSON.stringify(await createPrivateKey()))
    const wrong = await fleet.hostlet('vm', 'recover-keys', 'web-1', '--key', join(directory, 'other.jwk'))
    assert.match(wrong.stderr, /no key given opens the disks/)
    const words = ['vm', 'recover-keys', 'web-1', '--key', fleet.recoveryPath]
    const pinned = await fleet.hostlet(...words, '--host-key', 'x'.repeat(43))
    assert.match(pinned.stderr, /nothing was sent/)
    const recovered = await fleet.hostlet(...words)
    assert.equal(recovered.status, 0, recovered.stderr)
    assert.match(recovered.stdout, /has 2 keys again/)
    await fleet.until('no condition', async () => (await fleet.condition('disk-key-missing')) === undefined)
    assert.equal((await start()).state, 'done')
    assert.deepEqual([...hypervisor.secrets.values()].sort(), passphrases.sort())
    await escrowed()
    assert.deepEqual(fleet.holding([...passphrases, fleet.recovery.d]), [])

    const { uuid } = await fleet.vm('web-1')
    await fleet.done('/v1/vms/web-1', undefined, 'DELETE')
    await fleet.until('the keys to be gone', async () => (await fleet.keys(uuid)).keys.length === 0)
  })

  it('of the scheduler lie nowhere on the host, and nothing starts without it', async () => {
    await open('scheduler')
    await provision()
    await escrowed()
    const { keys } = await fleet.keys('web-1')
    assert.deepEqual(
      keys.map(({ place }) => place),
      ['scheduler', 'scheduler']
    )
    assert.deepEqual(readdirSync(join(fleet.stateDirectory)).includes('keys'), false)
    await fleet.until('libvirt to have forgotten them', () => hypervisor.secrets.size === 0)
    await stop()

    const withheld = await fleet.hostlet('vm', 'keys', 'web-1', '--withhold')
    assert.match(withheld.stdout, /cannot be started any more/)
    const locked = (await start()).error
    assert.equal(locked?.code, 'E_CONFLICT')
    assert.match(locked?.message ?? '', /hostlet vm keys web-1 --release/)
    await fleet.hostlet('vm', 'keys', 'web-1', '--release')
    assert.equal((await start()).state, 'done')

    await fleet.stopScheduler()
    await fleet.stopAgent()
    hypervisor.bootHost()
    rmSync(join(directory, 'run'), { recursive: true })
    await fleet.startAgent()
    await fleet.until('the start to be tried', () =>
      fleet.lines.join('').includes('could not be started after host boot')
    )
    assert.match(fleet.lines.join(''), /nothing starts without it/)
    const wait = { signal: AbortSignal.timeout(60_000) }
    const state = async () => (await hypervisor.findVm('web-1', wait))?.state
    assert.notEqual(await state(), 'running')
    await fleet.startScheduler()
    await fleet.until('the VM to run again', async () => (await state()) === 'running')
  })

  it('are wrapped anew when the policy names other recovery keys, and stand as a condition while it names none', async () => {
    await open('host')
    fleet.writePolicy({ repositories: {}, recovery: [] })
    await provision()
    await fleet.until(
      'the scheduler to know of them',
      async () => (await fleet.keys('web-1')).keys.length === 2
    )
    assert.deepEqual(
      (await fleet.keys('web-1')).keys.map(({ recipients }) => recipients),
      [[], []]
    )
    const tenant = await createPrivateKey()
    fleet.writePolicy({
      recovery: [{ jwk: publicHalf(fleet.recovery) }],
      tenants: [{ vms: ['web-*'], recipients: [{ jwk: publicHalf(tenant) }] }]
    })
    await fleet.stopAgent()
    await fleet.startAgent()
    await fleet.until('the tenant’s key to open them', async () => {
      const { keys } = await fleet.keys('web-1')
      return keys.every(({ recipients }) => recipients.join() === tenant.kid)
    })
  })
})
