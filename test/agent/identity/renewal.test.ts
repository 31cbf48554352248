// Renewal: in time, with a new key, stored before it is used, and tried again when it fails.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type Identity, loadIdentity, saveIdentity } from '../../../src/agent/identity/identity.ts'
import { Renewal } from '../../../src/agent/identity/renewal.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { trustJwsType } from '../../../src/protocol/trust.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { createSigner } from '../../support/signed-commands.ts'
import { TestAuthority, trustDomain } from '../../support/test-authority.ts'
import { TestScheduler } from '../../support/test-scheduler.ts'

const dayMs = 86_400_000

describe('renewal', () => {
  let authority: TestAuthority
  let directory: string
  before(async () => {
    authority = await TestAuthority.create()
    directory = mkdtempSync(join(tmpdir(), 'hostlet-renewal-'))
  })
  after(() => rmSync(directory, { recursive: true }))

  function create(identity: Identity, { random = 0.5, url = 'wss://127.0.0.1:9/v1/agent' } = {}) {
    const clock = new FakeClock(Date.now())
    const { promise: renewed, resolve: onRenewed } = Promise.withResolvers<Identity>()
    const renewal = new Renewal(
      { value: identity },
      {
        stateDirectory: directory,
        urls: [url],
        clock,
        log: silentLogger,
        random: () => random,
        onRenewed
      }
    )
    return { clock, renewal, renewed }
  }

  it('is due between 70 and 90 percent of the life, differently on each host', async () => {
    const from = Math.floor(Date.now() / 1_000) * 1_000
    const identity = await authority.identity({ from, to: from + 100 * dayMs })
    const dueDays = [0, 0.5, 1].map((random) => (create(identity, { random }).renewal.dueAt - from) / dayMs)
    assert.deepEqual(dueDays.map(Math.round), [70, 80, 90])
  })

  it('gets a certificate for a new key over the old one, and stores it', async () => {
    const from = Date.now() - 80 * dayMs
    const identity = await authority.identity({ from, to: Date.now() + dayMs })
    saveIdentity(directory, identity)
    const server = await authority.issue({
      usage: 'server',
      uris: [`spiffe://${trustDomain}/scheduler/main`]
    })
    await using scheduler = await TestScheduler.listen({
      authority,
      server,
      reply: async (path, body) => {
        assert.equal(path, '/v1/renew')
        const { key: _key, enrolledAt: _at, ...reply } = identity
        const request = (body as { certificateRequest: string }).certificateRequest
        const uris = [`spiffe://${trustDomain}/host/host-1`]
        return {
          status: 200,
          body: {
            ...reply,
            certificate: await authority.certifyRequest(request, { uris, to: Date.now() + 90 * dayMs })
          }
        }
      }
    })
    const { clock, renewal, renewed } = create(identity, { url: scheduler.socketUrl })
    renewal.start()
    await clock.advance(0)
    const fresh = await renewed
    assert.notEqual(fresh.key, identity.key)
    assert.equal(fresh.enrolledAt, identity.enrolledAt)
    assert.deepEqual(loadIdentity(directory), fresh)
    assert.ok(renewal.dueAt > clock.now())
    renewal[Symbol.dispose]()
    assert.equal(clock.pending, 0)
  })

  it('takes no command key and no CA from an answer, only a statement that a known key signed', async () => {
    const [mine, theirs, next] = await Promise.all(['mine', 'theirs', 'next'].map((kid) => createSigner(kid)))
    assert.ok(mine && theirs && next)
    const life = { from: Date.now() - 80 * dayMs, to: Date.now() + dayMs }
    const identity = await authority.identity({ ...life, commandKeys: [mine.publicKey] })
    const other = await TestAuthority.create()
    const keys = { commandKeys: [{ key: next.publicKey, role: 'active' }] }
    const cas = { authorities: [{ certificate: authority.certificate, role: 'active' }] }
    const content = { trustDomain, serial: 3, issuedAt: 1, ...keys, ...cas, renewWithinMs: 0 }
    const answer = (signer: typeof mine) => async (_path: string, body: unknown) => {
      const { key: _key, enrolledAt: _at, ...reply } = identity
      const request = (body as { certificateRequest: string }).certificateRequest
      const uris = [`spiffe://${trustDomain}/host/host-1`]
      const certificate = await authority.certifyRequest(request, { uris, to: Date.now() + 90 * dayMs })
      const captured = { caCertificate: other.certificate, commandKeys: [theirs.publicKey] }
      const trust = [await signer.sign(content, { typ: trustJwsType })]
      return { status: 200, body: { ...reply, ...captured, certificate, trust } }
    }
    const server = await authority.issue({
      usage: 'server',
      uris: [`spiffe://${trustDomain}/scheduler/main`]
    })
    saveIdentity(directory, identity)
    {
      await using scheduler = await TestScheduler.listen({ authority, server, reply: answer(theirs) })
      const { clock, renewal } = create(identity, { url: scheduler.socketUrl })
      const due = renewal.dueAt
      renewal.start()
      await clock.advance(0)
      while (renewal.dueAt === due) await new Promise((resolve) => setImmediate(resolve))
      assert.deepEqual(loadIdentity(directory), identity, 'nothing of a forged answer is kept')
      renewal[Symbol.dispose]()
    }
    await using scheduler = await TestScheduler.listen({ authority, server, reply: answer(mine) })
    const { clock, renewal, renewed } = create(identity, { url: scheduler.socketUrl })
    renewal.start()
    await clock.advance(0)
    const fresh = await renewed
    assert.deepEqual(fresh.commandKeys, [next.publicKey])
    assert.ok(!fresh.caCertificate.includes(other.certificate))
    assert.notEqual(fresh.certificate, identity.certificate)
    renewal[Symbol.dispose]()
  })

  it('tries again later when the scheduler is away, and keeps what it has', async () => {
    const identity = await authority.identity({ from: Date.now() - 80 * dayMs, to: Date.now() + dayMs })
    saveIdentity(directory, identity)
    const { clock, renewal } = create(identity)
    const due = renewal.dueAt
    assert.ok(due <= clock.now())
    renewal.start()
    await clock.advance(0)
    while (renewal.dueAt === due) await new Promise((resolve) => setImmediate(resolve))
    assert.ok(renewal.dueAt > clock.now() && renewal.dueAt < clock.now() + dayMs)
    assert.deepEqual(loadIdentity(directory), identity)
    renewal[Symbol.dispose]()
  })
})
