// The authority and its files: made once, kept, renewed in time, and refused when damaged.

import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { silentLogger } from '../../../src/lib/log.ts'
import { Authority } from '../../../src/scheduler/identity/authority.ts'

const dayMs = 86_400_000
const start = Date.parse('2030-01-01T00:00:00Z')

describe('the authority', () => {
  let directory: string
  let now: number

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-authority-'))
    now = start
  })
  afterEach(() => rmSync(directory, { recursive: true }))

  const open = () =>
    Authority.open({
      directory,
      trustDomain: 'hostlet.internal',
      authorityMs: 3_650 * dayMs,
      serverMs: 90 * dayMs,
      hostMs: 7 * dayMs,
      clock: { now: () => now },
      log: silentLogger
    })

  it('is made once and is the same ever after', async () => {
    const first = await open()
    const certificate = new X509Certificate(first.certificatePem)
    assert.equal(certificate.ca, true)
    assert.ok(certificate.verify(certificate.publicKey))
    assert.equal((await open()).caHash, first.caHash)
  })

  it('keeps its keys to itself', async () => {
    await (await open()).serverCertificate(['localhost'])
    for (const name of ['ca-key.pem', 'server-key.pem'])
      assert.equal(statSync(join(directory, name)).mode & 0o777, 0o600)
  })

  it('names the scheduler as the configuration does, DNS names and addresses', async () => {
    const { certificatePem } = await (await open()).serverCertificate([
      'sched-1.example.org',
      '192.0.2.7',
      '2001:db8::7'
    ])
    const certificate = new X509Certificate(certificatePem)
    assert.equal(certificate.checkHost('sched-1.example.org'), 'sched-1.example.org')
    assert.equal(certificate.checkIP('192.0.2.7'), '192.0.2.7')
    assert.equal(certificate.checkIP('2001:db8::7'), '2001:db8::7')
    assert.equal(certificate.checkHost('other.example.org'), undefined)
    assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.1'])
  })

  describe("keeps the server's certificate", () => {
    it('until a third of its life is left', async () => {
      const authority = await open()
      const { certificatePem } = await authority.serverCertificate(['localhost'])
      now = start + 59 * dayMs
      assert.equal((await authority.serverCertificate(['localhost'])).certificatePem, certificatePem)
      now = start + 61 * dayMs
      const renewed = new X509Certificate((await authority.serverCertificate(['localhost'])).certificatePem)
      assert.equal(renewed.validToDate.getTime(), now + 90 * dayMs)
    })

    it('until the configuration has another name', async () => {
      const authority = await open()
      const { certificatePem } = await authority.serverCertificate(['localhost'])
      const renamed = await authority.serverCertificate(['localhost', 'sched-2.example.org'])
      assert.notEqual(renamed.certificatePem, certificatePem)
      assert.ok(new X509Certificate(renamed.certificatePem).checkHost('sched-2.example.org'))
    })

    it('until its files are damaged', async () => {
      const authority = await open()
      const { certificatePem } = await authority.serverCertificate(['localhost'])
      writeFileSync(join(directory, 'server-key.pem'), 'half a k')
      assert.notEqual((await authority.serverCertificate(['localhost'])).certificatePem, certificatePem)
    })
  })

  it('is not made anew over one whose key is missing or another: hosts would trust nobody', async () => {
    await open()
    const key = readFileSync(join(directory, 'ca-key.pem'), 'utf8')
    rmSync(join(directory, 'ca-key.pem'))
    await assert.rejects(open(), { code: 'E_CORRUPT', message: /ca-key.pem is missing.*Restore both/ })
    writeFileSync(join(directory, 'ca-key.pem'), key.replace(/[A-Za-z]{8}/g, 'AAAAAAAA'))
    await assert.rejects(open(), { code: 'E_CORRUPT' })
  })

  it('signs nothing that outlives itself', async () => {
    const authority = await open()
    now = start + 3_649 * dayMs
    const { certificatePem } = await authority.serverCertificate(['localhost'])
    const ends = (pem: string) => new X509Certificate(pem).validToDate.getTime()
    assert.equal(ends(certificatePem), ends(authority.certificatePem))
  })
})
