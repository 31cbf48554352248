// Trust statements on the host: only one that a known key signed counts, and only in the order of their serials.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import { type Identity, loadIdentity } from '../../../src/agent/identity/identity.ts'
import { adopt, renewalWanted, retiredAuthorities, serialOf } from '../../../src/agent/identity/trust.ts'
import { TrustKeeper } from '../../../src/agent/identity/trust-keeper.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { commandJwsType } from '../../../src/protocol/command.ts'
import { type TrustStatement, trustJwsType } from '../../../src/protocol/trust.ts'
import { createSigner, type Signer } from '../../support/signed-commands.ts'
import { TestAuthority, trustDomain } from '../../support/test-authority.ts'

let [first, second, third]: [Signer, Signer, Signer] = [] as never
let [authority, nextAuthority]: [TestAuthority, TestAuthority] = [] as never
let identity: Identity
let root: string

before(async () => {
  ;[first, second, third] = await Promise.all([createSigner('a'), createSigner('b'), createSigner('c')])
  ;[authority, nextAuthority] = await Promise.all([TestAuthority.create(), TestAuthority.create()])
  identity = await authority.identity({ commandKeys: [first.publicKey] })
  root = mkdtempSync(join(tmpdir(), 'hostlet-trust-'))
})
after(() => rmSync(root, { recursive: true }))

function statement(serial: number, changes: Partial<TrustStatement> = {}): TrustStatement {
  return {
    trustDomain,
    serial,
    issuedAt: 1,
    commandKeys: [{ key: first.publicKey, role: 'active' }],
    authorities: [{ certificate: authority.certificate, role: 'active' }],
    renewWithinMs: 60_000,
    ...changes
  }
}

function sign(signer: Signer, content: unknown, header: Record<string, unknown> = {}): Promise<string> {
  return signer.sign(content, { typ: trustJwsType, ...header })
}

function bothKeys(serial: number) {
  return statement(serial, {
    commandKeys: [
      { key: first.publicKey, role: 'active' },
      { key: second.publicKey, role: 'next' }
    ]
  })
}

/** Why it is not adopted; undefined when it is. */
async function refusal(jws: string | Promise<string>, by = identity): Promise<unknown> {
  try {
    adopt(by, await jws)
    return undefined
  } catch (error) {
    return (error as { details: { reason: unknown } }).details.reason
  }
}

describe('a trust statement', () => {
  it('is all that the keys and CAs of the host are, once it is adopted', async () => {
    const old = await TestAuthority.create()
    const content = {
      ...bothKeys(7),
      authorities: [
        { certificate: authority.certificate, role: 'active' },
        { certificate: nextAuthority.certificate, role: 'next' },
        { certificate: old.certificate, role: 'retired' }
      ]
    }
    const adopted = adopt(identity, await sign(first, content))
    assert.deepEqual(adopted.commandKeys, [first.publicKey, second.publicKey])
    assert.ok(adopted.caCertificate.includes(nextAuthority.certificate.trim()))
    assert.ok(!adopted.caCertificate.includes(old.certificate.trim()), 'a retired CA connects nobody')
    assert.deepEqual(retiredAuthorities(adopted), [old.certificate])
    assert.equal(serialOf(adopted), 7)
    assert.equal(adopted.key, identity.key)
  })

  it('counts only when a command key of the host signed it', async () => {
    const good = await sign(first, bothKeys(1))
    assert.equal(await refusal(good), undefined)
    assert.equal(await refusal(sign(second, bothKeys(1))), 'key')
    // Another key under the name of a known one.
    assert.equal(await refusal(sign(await createSigner('a'), bothKeys(1))), 'signature')
    const [head, , tail] = good.split('.')
    const forged = Buffer.from(JSON.stringify(bothKeys(2))).toString('base64url')
    assert.equal(await refusal(`${head}.${forged}.${tail}`), 'signature')
  })

  it('is nothing else that the same key signs, and nothing else is it', async () => {
    assert.equal(await refusal(first.sign(bothKeys(1), { typ: commandJwsType })), 'type')
    assert.equal(await refusal(sign(first, bothKeys(1), { crit: ['x'], x: 1 }).catch(() => 'x.y.z')), 'form')
    assert.equal(await refusal(sign(first, bothKeys(1), { cty: 'odd' })), 'type')
    const none = Buffer.from(JSON.stringify({ alg: 'none', kid: 'a', typ: trustJwsType })).toString(
      'base64url'
    )
    const body = Buffer.from(JSON.stringify(bothKeys(1))).toString('base64url')
    assert.equal(await refusal(`${none}.${body}.`), 'type')
  })

  it('of another fleet is not adopted', async () => {
    assert.equal(await refusal(sign(first, statement(1, { trustDomain: 'other.example' }))), 'trust-domain')
  })

  it('that is older than the one in force is not adopted, nor another one with its serial', async () => {
    const older = await sign(first, statement(4))
    const inForce = adopt(identity, await sign(first, bothKeys(5)))
    assert.equal(await refusal(older, inForce), 'older')
    assert.equal(await refusal(sign(first, statement(5)), inForce), 'fork')
    assert.equal(
      adopt(inForce, await sign(second, bothKeys(5))),
      inForce,
      'the same content again changes nothing'
    )
  })

  it('without a key or CA that signs, or with what is no CA, is not adopted', async () => {
    const leaf = (await authority.identity()).certificate
    const contents: unknown[] = [
      statement(1, { commandKeys: [{ key: first.publicKey, role: 'next' }] }),
      statement(1, { authorities: [{ certificate: leaf, role: 'active' }] }),
      statement(1, { authorities: [{ certificate: 'no PEM', role: 'active' }] }),
      statement(1, {
        authorities: [{ certificate: authority.certificate + nextAuthority.certificate, role: 'active' }]
      }),
      statement(1, {
        commandKeys: [
          { key: first.publicKey, role: 'active' },
          { key: { ...second.publicKey, kid: 'a' }, role: 'next' }
        ]
      }),
      { ...statement(1), surplus: true },
      'no object'
    ]
    for (const content of contents)
      assert.equal(await refusal(sign(first, content)), 'form', JSON.stringify(content).slice(0, 80))
    assert.equal(await refusal('a.b'), 'form')
    assert.equal(await refusal('x'.repeat(100_000)), 'form')
  })

  it('tells a host with a certificate of another CA to renew it', async () => {
    assert.equal(renewalWanted(adopt(identity, await sign(first, statement(1)))), undefined)
    const moved = statement(2, {
      authorities: [
        { certificate: nextAuthority.certificate, role: 'active' },
        { certificate: authority.certificate, role: 'previous' }
      ]
    })
    assert.deepEqual(renewalWanted(adopt(identity, await sign(first, moved))), { withinMs: 60_000 })
  })
})

describe('the keeper of trust', () => {
  let stateDirectory: string
  beforeEach(() => {
    stateDirectory = mkdtempSync(join(root, 'state-'))
  })
  const create = (adopted: number[] = []) => {
    const current = { value: identity }
    const keeper = new TrustKeeper({
      identity: current,
      stateDirectory,
      log: silentLogger,
      onAdopted: () => adopted.push(keeper.serial)
    })
    return { current, keeper }
  }
  const chain = async () => [
    await sign(first, statement(1)),
    await sign(first, bothKeys(2)),
    await sign(first, {
      ...statement(3),
      commandKeys: [
        { key: second.publicKey, role: 'active' },
        { key: first.publicKey, role: 'previous' }
      ]
    }),
    await sign(second, { ...statement(4), commandKeys: [{ key: second.publicKey, role: 'active' }] })
  ]

  it('catches up with a whole chain, and has written down what it goes by', async () => {
    const adopted: number[] = []
    const { current, keeper } = create(adopted)
    assert.deepEqual(keeper.take(await chain()), { type: 'trust-ack', serial: 4 })
    assert.deepEqual(adopted, [1, 2, 3, 4])
    assert.deepEqual(loadIdentity(stateDirectory), current.value)
    assert.deepEqual(current.value.commandKeys, [second.publicKey])
    assert.deepEqual(keeper.take(await chain()), { type: 'trust-ack', serial: 4 }, 'told again, all is well')
  })

  it('stays where it is before a gap, and says that it needs a new token', async () => {
    const [one = '', , , four = ''] = await chain()
    const { current, keeper } = create()
    const answer = keeper.take([one, four])
    assert.equal(answer.serial, 1)
    assert.equal(answer.fault?.details?.reason, 'key')
    assert.match(answer.fault?.message ?? '', /hostlet host token/)
    assert.deepEqual(current.value.commandKeys, [first.publicKey])
  })

  it('is not led back by an old statement whose key is known', async () => {
    const { current, keeper } = create()
    const [one = '', two = ''] = await chain()
    keeper.take([one, two])
    const answer = keeper.take([one])
    assert.deepEqual([answer.serial, answer.fault?.code], [2, 'E_STALE'])
    assert.deepEqual(current.value.commandKeys, [first.publicKey, second.publicKey])
    assert.equal(keeper.take([await sign(third, statement(9))]).fault?.details?.reason, 'key')
  })

  it('does not go by what it could not write down', async () => {
    const { current, keeper } = create()
    rmSync(stateDirectory, { recursive: true })
    const { writeFileSync } = await import('node:fs')
    writeFileSync(stateDirectory, 'in the way of the directory')
    const answer = keeper.take(await chain())
    assert.deepEqual([answer.serial, answer.fault?.code], [0, 'E_UNAVAILABLE'])
    assert.equal(current.value, identity)
  })
})
