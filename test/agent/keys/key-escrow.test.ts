// What the scheduler is told of keys, and when: until it is acknowledged, ends before beginnings, anew when the policy changes.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { DiskKeys } from '../../../src/agent/keys/disk-keys.ts'
import { EscrowRecords } from '../../../src/agent/keys/escrow-records.ts'
import { HostKey } from '../../../src/agent/keys/host-key.ts'
import { createPrivateKey, type PrivateKey, publicHalf } from '../../../src/agent/keys/jwk.ts'
import { KeyEscrow, type KeyPlace, policyLookMs, retellMs } from '../../../src/agent/keys/key-escrow.ts'
import { keyAnswerMs } from '../../../src/agent/keys/key-requests.ts'
import { MemoryShelf } from '../../../src/agent/keys/key-shelf.ts'
import { KeyWatch, unescrowedMs } from '../../../src/agent/keys/key-watch.ts'
import { openRecovery } from '../../../src/agent/keys/recovery.ts'
import { AgentDatabase } from '../../../src/agent/operations/database.ts'
import { HostletError } from '../../../src/errors.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import type { EscrowedKey } from '../../../src/protocol/keys.ts'
import type { AgentMessage, AgentMessageOf } from '../../../src/protocol/messages.ts'
import { FakeClock } from '../../support/fake-clock.ts'

const vm = { name: 'web-1', uuid: randomUUID() }
const passphrase = 'canary-passphrase-0a1b2c3d4e5f'

describe('custody of keys at the scheduler', () => {
  let directory: string
  let clock: FakeClock
  let database: AgentDatabase
  let records: EscrowRecords
  let hostKey: HostKey
  let disks: DiskKeys
  let escrow: KeyEscrow
  let recovery: PrivateKey
  let recipients: readonly PrivateKey[]
  let online: boolean
  let sent: AgentMessage[]

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-escrow-'))
    clock = new FakeClock()
    database = new AgentDatabase(join(directory, 'agent.db'))
    records = new EscrowRecords({ database })
    hostKey = await HostKey.open({ stateDirectory: directory, clock })
    recovery = await createPrivateKey()
    recipients = [recovery]
    online = true
    sent = []
    open('host')
  })
  afterEach(async () => {
    escrow[Symbol.dispose]()
    await escrow.told()
    database[Symbol.dispose]()
    rmSync(directory, { recursive: true })
  })

  function open(place: KeyPlace): void {
    const shelf = place === 'scheduler' ? { shelf: new MemoryShelf() } : {}
    disks = new DiskKeys({ directory: join(directory, 'keys'), ...shelf, hostKey: () => hostKey, clock })
    escrow = new KeyEscrow({
      ...{ place, records, disks, clock },
      line: { isOnline: () => online, post: (message) => sent.push(message) },
      hostKey: () => hostKey.publicKey,
      recipients: async () => {
        if (recipients.length === 0) throw new HostletError('E_AUTH', 'there is no policy')
        return recipients.map(publicHalf)
      },
      log: silentLogger
    })
    disks.entrust(escrow)
  }

  const of = <Type extends AgentMessage['type']>(type: Type) =>
    sent.filter((message): message is AgentMessageOf<Type> => message.type === type)
  async function told(): Promise<readonly EscrowedKey[]> {
    await escrow.told()
    return of('disk-keys').at(-1)?.keys ?? []
  }
  const acknowledge = (keys: readonly EscrowedKey[], fault?: string) =>
    escrow.take({
      type: 'disk-keys-ack',
      keys: keys.map(({ id, revision }) => ({ id, revision, ...(fault !== undefined && { fault }) }))
    })
  const keep = async (id = randomUUID(), volume = 'root.qcow2') => {
    await disks.keep({ id, vm, volume, passphrase })
    return id
  }
  const until = async (holds: () => boolean) => {
    while (!holds()) await new Promise((resolve) => setImmediate(resolve))
  }

  it('is told of a new key at once, which only the recovery key opens', async () => {
    await disks.prepare()
    const id = await keep()
    const [key] = await told()
    assert.deepEqual([key?.id, key?.vm, key?.uuid, key?.host], [id, vm.name, vm.uuid, undefined])
    assert.ok(key?.recovery)
    const content = await openRecovery(key.recovery, [recovery], { id, uuid: vm.uuid })
    assert.deepEqual(content?.passphrases, [passphrase])
    assert.equal(JSON.stringify(sent).includes(passphrase), false)
  })

  it('is told again until it acknowledges, also by another run of the agent', async () => {
    await disks.prepare()
    online = false
    await keep()
    assert.deepEqual(sent, [])
    online = true
    await escrow.online()
    const first = await told()
    assert.equal(first.length, 1)
    open('host')
    await escrow.online()
    const again = await told()
    assert.equal(of('disk-keys').length, 2)
    acknowledge(again)
    await clock.advance(retellMs)
    await escrow.told()
    assert.equal(of('disk-keys').length, 2)
  })

  it('is told in batches, and of what it refused only now and then', async () => {
    await disks.prepare()
    online = false
    for (let count = 0; count < 70; count++) await keep()
    online = true
    await escrow.online()
    const batch = await told()
    assert.equal(batch.length, 64)
    acknowledge(batch, 'the VM belongs to another host')
    const rest = await told()
    assert.equal(rest.length, 6)
    acknowledge(rest)
    await escrow.told()
    assert.equal(of('disk-keys').length, 2)
    await clock.advance(retellMs)
    await escrow.told()
    assert.equal((await told()).length, 64)
  })

  it('hears of ends first, until it acknowledges them, and only then of new keys of the same VM', async () => {
    await disks.prepare()
    const id = await keep()
    acknowledge(await told())
    online = false
    assert.equal(disks.destroy(id), true)
    disks.destroyAll(vm.uuid)
    const next = await keep()
    online = true
    await escrow.online()
    await escrow.told()
    const [gone] = of('disk-keys-gone')
    assert.deepEqual(gone?.keys, [{ uuid: vm.uuid, id }, { uuid: vm.uuid }])
    assert.equal(of('disk-keys').length, 1)
    escrow.take({ type: 'disk-keys-gone-ack', keys: gone?.keys ?? [] })
    assert.deepEqual(
      (await told()).map((key) => key.id),
      [next]
    )
  })

  it('gets keys wrapped anew when the policy names other recovery keys', async () => {
    await disks.prepare()
    const id = await keep()
    acknowledge(await told())
    const tenant = await createPrivateKey()
    recipients = [tenant]
    await escrow.online()
    await clock.advance(policyLookMs)
    await until(() => of('disk-keys').length > 1)
    const [key] = await told()
    assert.equal(key?.revision, 2)
    assert.ok(key?.recovery)
    assert.equal(await openRecovery(key.recovery, [recovery], { id, uuid: vm.uuid }), undefined)
    assert.ok(await openRecovery(key.recovery, [tenant], { id, uuid: vm.uuid }))
  })

  it('has both passphrases while one takes the place of the other', async () => {
    await disks.prepare()
    const id = await keep()
    acknowledge(await told())
    const { from, to } = await disks.beginChange(id)
    const opened = async () => {
      const [key] = await told()
      assert.ok(key?.recovery)
      acknowledge([key])
      return (await openRecovery(key.recovery, [recovery], { id, uuid: vm.uuid }))?.passphrases
    }
    assert.deepEqual(await opened(), [from, to])
    disks.turnOver(id)
    await disks.changeToEnd(id)
    assert.deepEqual(await opened(), [to, from])
    disks.endChange(id)
    assert.deepEqual(await opened(), [to])
  })

  it('names VMs whose keys would be lost, after a while and with the reason', async () => {
    await disks.prepare()
    recipients = []
    await keep()
    acknowledge(await told())
    const watch = new KeyWatch({
      ...{ place: 'host', records, clock, log: silentLogger },
      has: (id) => disks.has(id),
      policyFault: () => 'there is no policy',
      hypervisor: { listVms: async () => [] }
    } as const)
    assert.deepEqual(watch.health().unescrowed, [])
    await clock.advance(unescrowedMs + 1)
    assert.deepEqual(watch.health().unescrowed, [{ vm: 'web-1', why: 'there is no policy' }])
    recipients = [recovery]
    await escrow.refresh()
    acknowledge(await told())
    assert.deepEqual(watch.health().unescrowed, [])
    await watch[Symbol.asyncDispose]()
  })

  it('keeps the only copy where the host keeps none: a key counts once it is acknowledged', async () => {
    open('scheduler')
    await disks.prepare()
    let counts = false
    const keeping = keep().then((id) => {
      counts = true
      return id
    })
    await until(() => of('disk-keys').length > 0)
    const [key] = of('disk-keys')[0]?.keys ?? []
    assert.equal(counts, false)
    assert.ok(key?.host)
    assert.equal(await hostKey.open(key.host.wrapped), passphrase)
    acknowledge([key])
    const id = await keeping
    open('scheduler')
    await disks.prepare()
    const unwrapping = disks.unwrap(id)
    await until(() => of('disk-keys-request').length > 0)
    const { request } = of('disk-keys-request')[0] ?? { request: '' }
    const { revision: _r, recovery: _w, host, ...about } = key
    escrow.take({ type: 'disk-keys-grant', request, keys: [{ ...about, host }], denied: [] })
    assert.equal(await unwrapping, passphrase)
  })

  it('is told and asked once more where the connection broke before it could answer', async () => {
    open('scheduler')
    await disks.prepare()
    const keeping = keep()
    await until(() => of('disk-keys').length > 0)
    await escrow.online()
    const [key] = await told()
    assert.equal(of('disk-keys').length, 2)
    assert.ok(key?.host)
    acknowledge([key])
    const id = await keeping
    open('scheduler')
    await disks.prepare()
    const unwrapping = disks.unwrap(id)
    await until(() => of('disk-keys-request').length > 0)
    await escrow.online()
    const [first, again] = of('disk-keys-request')
    assert.ok(first)
    assert.deepEqual(again, first)
    const { revision: _r, recovery: _w, host, ...about } = key
    escrow.take({ type: 'disk-keys-grant', request: first.request, keys: [{ ...about, host }], denied: [] })
    assert.equal(await unwrapping, passphrase)
  })

  it('leaves no key to count while it is away, silent or unwilling, and says so', async () => {
    open('scheduler')
    await disks.prepare()
    online = false
    await assert.rejects(keep(), { code: 'E_UNAVAILABLE', message: /nothing starts without it/ })
    await assert.rejects(disks.unwrap(randomUUID()), { code: 'E_UNAVAILABLE' })
    online = true
    const silent = assert.rejects(keep(), { code: 'E_UNAVAILABLE', message: /did not answer in time/ })
    await until(() => of('disk-keys').length > 0)
    await clock.advance(keyAnswerMs)
    await silent
    const unwilling = assert.rejects(keep(), { code: 'E_UNAVAILABLE', message: /another host/ })
    await until(() => of('disk-keys').length > 1)
    acknowledge(of('disk-keys').at(-1)?.keys ?? [], 'the VM belongs to another host')
    await unwilling
    const id = randomUUID()
    const withheld = assert.rejects(disks.unwrap(id), { code: 'E_CONFLICT', message: /withholds/ })
    await until(() => of('disk-keys-request').length > 0)
    const { request } = of('disk-keys-request').at(-1) ?? { request: '' }
    escrow.take({ type: 'disk-keys-grant', request, keys: [], denied: [{ id, reason: 'withheld' }] })
    await withheld
  })

  it('gets keys wrapped for the host’s new key when that was rotated', async () => {
    open('scheduler')
    await disks.prepare()
    const keeping = keep()
    await until(() => of('disk-keys').length > 0)
    acknowledge(of('disk-keys')[0]?.keys ?? [])
    const id = await keeping
    const before = hostKey.publicKey.kid
    await hostKey.rotate(async () => void (await disks.rewrapAll()))
    const refreshing = escrow.refresh()
    await until(() => of('disk-keys').length > 1)
    await refreshing
    const [key] = await told()
    assert.equal(key?.id, id)
    assert.ok(key?.host)
    assert.equal(hostKey.isCurrent(key.host.wrapped), true)
    assert.notEqual(hostKey.publicKey.kid, before)
  })
})
