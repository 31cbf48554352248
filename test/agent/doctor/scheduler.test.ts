// The way to a scheduler as the doctor tries it, against a real one: before a host joins, after, and when it is gone.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { identityFacts, schedulerAnswers } from '../../../src/agent/doctor/readers/scheduler.ts'
import { enroll } from '../../../src/agent/identity/enroll.ts'
import { loadIdentity, saveIdentity } from '../../../src/agent/identity/identity.ts'
import { TestScheduler } from '../../scheduler/support/test-scheduler.ts'
import { TestAuthority } from '../../support/test-authority.ts'

const { signal } = new AbortController()

describe('the way to the scheduler', () => {
  let scheduler: TestScheduler
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-doctor-'))
  const stateDirectory = join(directory, 'state')
  before(async () => {
    scheduler = await TestScheduler.start()
  })
  after(async () => {
    await scheduler[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  })

  it('is tried before a host joins, by the pin of its token alone', async () => {
    const { url, caHash } = await scheduler.token()
    assert.equal(await schedulerAnswers({ stateDirectory }, undefined, signal), null)
    const [answer] = (await schedulerAnswers({ stateDirectory }, { urls: [url], caHash }, signal)) ?? []
    assert.equal(answer?.fault, undefined)
    assert.ok(Math.abs(answer?.clockAheadMs ?? Number.NaN) < 5_000)
    const wrong = { urls: [url], caHash: `sha256:${'0'.repeat(64)}` }
    const [refused] = (await schedulerAnswers({ stateDirectory }, wrong, signal)) ?? []
    assert.match(refused?.fault ?? '', /shows no CA with the hash/)
  })

  it('is tried as the host that this is, each address by itself', async () => {
    const { url: schedulerUrl, caHash, token } = await scheduler.token()
    await enroll({ schedulerUrl, caHash, token, stateDirectory })
    const now = Date.now()
    const facts = await identityFacts(stateDirectory, now)
    assert.ok(facts)
    assert.deepEqual([facts.fault, facts.foreign], [undefined, false])
    assert.ok(facts.from <= now && facts.to > now)
    const urls = [loadIdentity(stateDirectory).schedulerUrls[0] ?? '', 'wss://nowhere.invalid:7443/v1/agent']
    const [first, second] =
      (await schedulerAnswers({ stateDirectory, schedulerUrls: urls }, undefined, signal)) ?? []
    assert.equal(first?.fault, undefined)
    assert.match(second?.fault ?? '', /DNS/)
  })

  it('fails where the host believes another CA, and when nobody is there', async () => {
    const identity = loadIdentity(stateDirectory)
    const { certificate } = await TestAuthority.create()
    saveIdentity(stateDirectory, { ...identity, caCertificate: certificate })
    const [foreign] = (await schedulerAnswers({ stateDirectory }, undefined, signal)) ?? []
    assert.match(foreign?.fault ?? '', /not signed by this fleet's CA/)
    const facts = await identityFacts(stateDirectory, Date.now())
    assert.match(facts?.fault ?? '', /not signed by a CA that it believes/)
    saveIdentity(stateDirectory, identity)
    await scheduler.stop()
    const [gone] = (await schedulerAnswers({ stateDirectory }, undefined, signal)) ?? []
    assert.match(gone?.fault ?? '', /nothing listens there/)
  })

  it('tells an identity of another machine, and a host without one', async () => {
    const identity = loadIdentity(stateDirectory)
    saveIdentity(stateDirectory, { ...identity, machine: 'f'.repeat(64) })
    assert.equal((await identityFacts(stateDirectory, Date.now()))?.foreign, true)
    assert.equal(await identityFacts(join(directory, 'none'), Date.now()), null)
  })
})
