// Our own certificate and the scheduler's: each fault has its name.

import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import type { PeerCertificate } from 'node:tls'
import { checkIdentity, serverFault, uriNames } from '../../../src/agent/identity/certificates.ts'
import type { Identity } from '../../../src/agent/identity/identity.ts'
import { TestAuthority, trustDomain } from '../../support/test-authority.ts'

let authority: TestAuthority
let good: Identity

before(async () => {
  authority = await TestAuthority.create()
  good = await authority.identity()
})

function reasonOf(identity: Identity, now = Date.now()): unknown {
  try {
    checkIdentity(identity, now)
    return undefined
  } catch (error) {
    assert.equal((error as { code?: string }).code, 'E_AUTH')
    return (error as { details: { reason: unknown } }).details.reason
  }
}

describe('checkIdentity', () => {
  it('accepts what enrollment gave', () => {
    assert.equal(reasonOf(good), undefined)
  })
  it('tells an expired from a not yet valid certificate', () => {
    assert.equal(reasonOf(good, Date.now() + 365 * 86_400_000), 'expired')
    assert.equal(reasonOf(good, Date.now() - 365 * 86_400_000), 'not-yet-valid')
  })
  it('tells another CA, another key and another name', async () => {
    const other = await TestAuthority.create()
    assert.equal(reasonOf({ ...good, caCertificate: other.certificate }), 'wrong-ca')
    assert.equal(reasonOf({ ...good, key: (await authority.identity()).key }), 'wrong-key')
    assert.equal(reasonOf({ ...good, hostId: 'host-2' }), 'wrong-name')
    assert.equal(reasonOf({ ...good, trustDomain: 'other.example' }), 'wrong-name')
  })
})

describe('serverFault', () => {
  const prefix = `spiffe://${trustDomain}/scheduler/`
  const of = (subjectaltname: string) =>
    serverFault('sched.example', { subjectaltname } as PeerCertificate, prefix)
  it("takes the scheduler's name or the address's", () => {
    assert.equal(of(`URI:${prefix}main`), undefined)
    assert.equal(of('DNS:sched.example'), undefined)
  })
  it('refuses another name, none, and a host that bears the address', () => {
    assert.equal(of('DNS:other.example')?.code, 'E_AUTH')
    assert.equal(of(`URI:spiffe://${trustDomain}/host/host-1`)?.code, 'E_AUTH')
    assert.equal(of(`URI:spiffe://${trustDomain}/host/host-1, DNS:sched.example`)?.code, 'E_AUTH')
  })
  it('is not led astray by a name that contains another', () => {
    assert.deepEqual(uriNames(`DNS:"a, URI:${prefix}main"`), [])
    assert.deepEqual(uriNames(`URI:"${prefix}a, b", URI:${prefix}main`), [`${prefix}main`])
  })
})
