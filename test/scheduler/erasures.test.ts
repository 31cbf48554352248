// Erase certificates that hosts send: what they say counts for the VMs of their own host only, also of VMs that are gone.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { afterEach, before, beforeEach, describe, it } from 'node:test'
import { EraseCertificates } from '../../src/agent/lifecycle/erase-certificates.ts'
import { systemClock } from '../../src/lib/clock.ts'
import type { CommandResult } from '../../src/protocol/command.ts'
import { learnOfErasure, learnOfTeardown, readEraseCertificate } from '../../src/scheduler/erasures.ts'
import { TestAuthority, trustDomain } from '../support/test-authority.ts'
import { backupRecord, backupReport, snapshot1, uuid1, uuid2 } from './support/samples.ts'
import { TestStore, vmSpecification } from './support/test-store.ts'

describe('erase certificates of hosts', () => {
  let authority: TestAuthority
  let test: TestStore
  let owner: string
  let liar: string
  let told: string[]
  before(async () => {
    authority = await TestAuthority.create()
  })
  beforeEach(async () => {
    told = []
    test = new TestStore()
    owner = await test.host('kvm-1')
    liar = await test.host('kvm-2')
    const report = backupReport(randomUUID(), backupRecord(owner))
    await test.store.backups.learn(owner, { kind: 'run', report }, 1)
  })
  afterEach(() => test[Symbol.asyncDispose]())

  const vm = { name: 'web-1', uuid: uuid1, generation: 1 }
  const provision = () =>
    test.command(owner, {
      ...{ verb: 'vm.provision', vm },
      intent: { kind: 'create', specification: vmSpecification('web-1', uuid1) }
    })

  /** With the word that the only backup is gone. */
  async function certificateOf(
    host: string,
    { uuid = uuid1, operation = randomUUID() as string } = {}
  ): Promise<string> {
    const { cert, key } = await authority.issue({ uris: [`spiffe://${trustDomain}/host/${host}`] })
    const identity = { certificate: cert, key, caCertificate: authority.certificate, trustDomain }
    const backups = { remaining: [], unknown: [], notListed: 0 }
    const { certificate } = await new EraseCertificates({
      hostId: host,
      identity: () => identity,
      clock: systemClock
    }).make({
      ...{ vm: 'web-1', uuid, operation, startedAt: Date.now(), keys: [], volumes: [], escrow: [] },
      backups: { ...backups, asked: true, erased: [{ target: 'main', snapshot: snapshot1 }] }
    })
    return String(certificate)
  }

  const contextOf = (host: string) => ({
    host,
    store: test.store,
    trust: { authorities: [authority.certificate], trustDomain },
    now: () => 2,
    log: {
      info: (_: object, text: string) => told.push(text),
      error: (_: object, text: string) => told.push(text)
    }
  })
  const newest = async () => (await test.store.backups.newest(uuid1, 'main'))?.record.snapshot
  const keptOf = async (name: string) => {
    const found = await test.store.erasures.find(name)
    return found && { ...readEraseCertificate(found.certificate), fault: found.fault }
  }

  for (const [what, make] of [
    ['a VM of another host', provision],
    ['a VM that is gone, of which another host made the backups', async () => undefined]
  ] as const)
    it(`hide no backups of ${what}`, async () => {
      await make()
      await learnOfErasure(await certificateOf(liar), contextOf(liar))
      assert.deepEqual(told, ['erase certificate about a VM of another host is left aside'])
      assert.equal(await newest(), snapshot1)
      assert.equal(await keptOf(uuid1), undefined)
      await learnOfErasure(await certificateOf(owner), contextOf(owner))
      assert.equal(await newest(), undefined)
      assert.equal((await keptOf(uuid1))?.host, owner)
    })

  it('do not stand before the one of the host that had the VM', async () => {
    await provision()
    await learnOfErasure(await certificateOf(owner), contextOf(owner))
    assert.equal(await test.store.vms.find('web-1'), undefined)
    await learnOfErasure(await certificateOf(liar), contextOf(liar))
    assert.equal((await keptOf('web-1'))?.host, owner)
  })

  it('in the result of a teardown are about the UUID that was to be torn down', async () => {
    await provision()
    const teardown = await test.command(liar, {
      verb: 'vm.teardown',
      vm: { ...vm, name: 'web-1', uuid: uuid1 }
    })
    const record = await test.store.commands.find(teardown.id)
    assert.ok(record)
    const certificate = await certificateOf(liar, { uuid: uuid2, operation: record.id })
    const value = { vm: 'web-1', uuid: uuid2, removed: [], remaining: [], existed: true, certificate }
    const result: CommandResult = { command: record.id, outcome: 'done', startedAt: 1, finishedAt: 2, value }
    await learnOfTeardown(record, result, contextOf(liar))
    assert.match((await keptOf(uuid2))?.fault ?? '', /another operation/)
  })
})
