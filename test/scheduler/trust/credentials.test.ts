// The keys of a scheduler as credentials of systemd: from the first start, through a rotation, and when the wrong one is given.

import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { TrustFleet } from '../../support/trust-fleet.ts'

describe('keys from credentials of systemd', { timeout: 300_000 }, () => {
  let root: string
  before(() => {
    root = mkdtempSync('/dev/shm/hostlet-credentials-')
  })
  after(() => rmSync(root, { recursive: true }))

  const pem = (type: 'ed25519' | 'ec') => {
    const { privateKey } =
      type === 'ec' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('ed25519')
    return String(privateKey.export({ type: 'pkcs8', format: 'pem' }))
  }
  const filesWithKeys = (directory: string) =>
    readdirSync(directory).filter((name) => /^(ca|command).*key/.test(name))

  it('sign from the first start on, are replaced by the next ones, and never lie in the state directory', async () => {
    const credentials = mkdtempSync(join(root, 'credentials-'))
    const give = (name: string, text: string) => writeFileSync(join(credentials, name), text)
    give('hostlet-ca-key', pem('ec'))
    give('hostlet-command-key', pem('ed25519'))
    await using fleet = new TrustFleet(mkdtempSync(join(root, 'fleet-')))
    fleet.credentialsDirectory = credentials
    await fleet.startScheduler()
    const host = await fleet.addHost('kvm-1')
    assert.deepEqual(filesWithKeys(fleet.stateDirectory), [])
    const before = await fleet.trust()

    const nextKeys = { 'hostlet-ca-key': pem('ec'), 'hostlet-command-key': pem('ed25519') }
    for (const [name, text] of Object.entries(nextKeys)) give(`${name}-next`, text)
    await fleet.stopScheduler()
    await fleet.startScheduler()
    await fleet.connected(host)
    for (const subject of ['command-key', 'ca'] as const) {
      await fleet.step(subject, 'start')
      await fleet.stepWhenReady(subject, 'activate')
      const { warnings } = await fleet.stepWhenReady(subject, 'finish')
      assert.match(warnings.join(), /-next is the key that signs now/)
    }
    assert.deepEqual(filesWithKeys(fleet.stateDirectory), [])
    await fleet.stopScheduler()
    for (const [name, text] of Object.entries(nextKeys)) {
      give(name, text)
      rmSync(join(credentials, `${name}-next`))
    }
    await fleet.startScheduler()
    const now = await fleet.trust()
    for (const [index, { active }] of now.rotations.entries())
      assert.notEqual(active.id, before.rotations[index]?.active.id)
    assert.equal((await fleet.reset(host)).state, 'done')

    await fleet.stopScheduler()
    give('hostlet-command-key', pem('ed25519'))
    await assert.rejects(fleet.startScheduler(), { code: 'E_CORRUPT', message: /hosts believe no other key/ })
  })
})
