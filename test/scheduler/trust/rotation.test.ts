// Both rotations on a real fleet: a scheduler and whole agents over real TLS, with commands that flow all the while.

import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { Traffic, TrustFleet } from '../../support/trust-fleet.ts'

describe('rotation', { timeout: 300_000 }, () => {
  let root: string
  before(() => {
    // In memory, as a host's runtime directory is.
    root = mkdtempSync('/dev/shm/hostlet-rotation-')
  })
  after(() => rmSync(root, { recursive: true }))
  const directory = () => mkdtempSync(join(root, 'fleet-'))

  it('of the command key and of the CA loses no command, and does none twice', async () => {
    await using fleet = await TrustFleet.open(directory(), 3)
    const traffic = new Traffic(fleet)
    await traffic.more(2)
    const before = await fleet.trust()

    await fleet.step('command-key', 'start')
    await traffic.more(1)
    await fleet.stepWhenReady('command-key', 'activate')
    await traffic.more(2)
    await fleet.stepWhenReady('command-key', 'finish')
    await traffic.more(2)

    await fleet.step('ca', 'start')
    await traffic.more(1)
    await fleet.stepWhenReady('ca', 'activate')
    await traffic.more(2)
    await fleet.stepWhenReady('ca', 'finish')
    await traffic.more(2)

    const count = await traffic.finish()
    assert.ok(count >= 30, `${count} commands`)
    const now = await fleet.trust()
    for (const subject of [0, 1]) {
      assert.equal(now.rotations[subject]?.phase, 'idle')
      assert.notEqual(now.rotations[subject]?.active.id, before.rotations[subject]?.active.id)
    }
    assert.deepEqual(
      now.retired.map((pem) => pem.trim()),
      [before.caBundle.trim()]
    )
    for (const host of fleet.hosts) {
      const { commandKeys, caCertificate, certificate } = host.identity
      assert.deepEqual(
        commandKeys.map(({ kid }) => kid),
        [now.rotations[1]?.active.id]
      )
      assert.equal(caCertificate, now.caBundle)
      assert.ok(new X509Certificate(certificate).verify(new X509Certificate(now.caBundle).publicKey))
    }
    assert.equal(readFileSync(fleet.scheduler.caFile, 'utf8'), now.caBundle)
  })
})
