// Both rotations on a real fleet: a scheduler and whole agents over real TLS, with commands that flow all the while.

import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { saveIdentity } from '../../../src/agent/identity/identity.ts'
import { splitCertificates } from '../../../src/lib/pem.ts'
import type { TrustView } from '../../../src/protocol/api.ts'
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

  it('can be taken back from each of its phases, and no command suffers', async () => {
    await using fleet = await TrustFleet.open(directory(), 2)
    const traffic = new Traffic(fleet)
    const before = await fleet.trust()
    for (const subject of ['command-key', 'ca'] as const) {
      await fleet.step(subject, 'start')
      await fleet.stepWhenReady(subject, 'activate')
      await traffic.more(1)
      // Hosts have certificates of the new CA by now.
      await fleet.ready(subject)
      const { rotation } = await fleet.step(subject, 'return')
      assert.equal(rotation.phase, 'prepared')
      assert.deepEqual(rotation.possible, ['activate', 'abort'])
      await traffic.more(1)
      await fleet.until('the old one to be usable alone', async () => {
        const path = `/v1/rotations/${subject}/abort`
        const { status } = await fleet.api.ask({ method: 'POST', path, json: {} })
        return status === 200
      })
      await traffic.more(1)
    }
    await traffic.finish()
    const now = await fleet.trust()
    assert.deepEqual(
      now.rotations.map(({ phase, active }) => [phase, active.id]),
      before.rotations.map(({ active }) => ['idle', active.id])
    )
    for (const name of ['ca-next-key.pem', 'command-key-next.json'])
      assert.ok(!existsSync(join(fleet.stateDirectory, name)), `${name} is destroyed`)
    for (const { identity } of fleet.hosts) assert.equal(identity.caCertificate, before.caBundle)
  })

  it('waits for hosts that are away, names them, and they catch up when they come back', async () => {
    await using fleet = await TrustFleet.open(directory(), 2)
    const [here, away] = fleet.hosts
    assert.ok(here && away)
    const wrong = await fleet.hostlet('rotate', 'ca', 'begin')
    assert.deepEqual([wrong.status, /Steps are start, activate/.test(wrong.stderr)], [2, true])
    await away.stop()
    const before = away.identity
    const waiting = fleet.reset(away)
    await fleet.until('the command to be recorded', async () => (await fleet.openOperations()) > 0)

    const refused = async (subject: string, action: string) =>
      await fleet.api.failure({ method: 'POST', path: `/v1/rotations/${subject}/${action}`, json: {} })
    await fleet.step('command-key', 'start')
    const { status, code, message } = await refused('command-key', 'activate')
    assert.deepEqual([status, code], [409, 'E_CONFLICT'])
    assert.match(message, new RegExp(`${away.name}: it is away since .*--force`))
    assert.match((await refused('command-key', 'finish')).message, /is prepared: finish is not possible now/)
    const shown = await fleet.hostlet('rotate', 'command-key', 'status')
    assert.equal(shown.status, 0, shown.stderr)
    assert.match(
      shown.stdout,
      /command key: prepared.*ready +1 of 2 hosts.*possible +activate, abort.*kvm-\d +away/s
    )
    const typed = await fleet.hostlet('rotate', 'command-key', 'activate')
    assert.deepEqual([typed.status, /not ready for "activate".*--force/s.test(typed.stderr)], [5, true])
    const forced = await fleet.step('command-key', 'activate', { force: true })
    assert.match(forced.warnings.join(), /1 hosts were left behind/)
    await fleet.step('command-key', 'finish', { force: true })
    await fleet.step('ca', 'start')
    await fleet.step('ca', 'activate', { force: true })

    // It knows neither the new key nor the new CA, and the command was signed by a key that is gone.
    await away.start()
    assert.equal((await waiting).state, 'done')
    await fleet.ready('ca')
    assert.notDeepEqual(away.identity.commandKeys, before.commandKeys)
    assert.notEqual(away.serialNumber, new X509Certificate(before.certificate).serialNumber)
    await fleet.step('ca', 'finish')
    const operations = await Promise.all([fleet.reset(here), fleet.reset(away)])
    assert.deepEqual(
      operations.map(({ state }) => state),
      ['done', 'done']
    )
    assert.deepEqual([here.resets, away.resets], [1, 2])
    const out = join(fleet.directory, 'all.pem')
    const written = await fleet.hostlet('rotate', 'ca', 'status', '--out', out, '--retired', '-o', 'json')
    const json = JSON.parse(written.stdout) as {
      phase: string
      history: { what: string; forced: boolean }[]
    }
    assert.deepEqual(
      [json.phase, ...json.history.map(({ what, forced }) => `${what} ${forced}`)],
      ['idle', 'ca finish false', 'ca activate true', 'ca start false']
    )
    assert.equal(splitCertificates(readFileSync(out, 'utf8')).length, 2)
  })

  it('of the CA leaves a host that was away for all of it to a new token, and says so', async () => {
    await using fleet = await TrustFleet.open(directory(), 1)
    const [host] = fleet.hosts
    assert.ok(host)
    await host.stop()
    const before = host.identity
    const early = await fleet.token()
    for (const action of ['start', 'activate']) await fleet.step('ca', action, { force: true })
    const late = await fleet.token()
    assert.notEqual(late.caHash, early.caHash)
    // A token that pins the CA before, and one that pins the new one: both lead to the same fleet.
    for (const token of [early, late]) {
      await host.join(token, { force: true })
      assert.equal(host.identity.caCertificate, (await fleet.trust()).caBundle)
    }
    const old = fleet.api
    await fleet.step('ca', 'finish', { force: true })
    assert.equal((await old.get<TrustView>('/v1/trust')).retired.length, 1, 'a copy of both CAs goes on')

    saveIdentity(host.stateDirectory, before)
    await host.start()
    await fleet.until('the agent to say what is wrong', () =>
      fleet.lines.some(
        (line) => line.startsWith(host.name) && /enroll again|Enroll the host again/.test(line)
      )
    )
    await host.stop()
    await host.join(await fleet.token(), { force: true })
    await host.start()
    await fleet.connected(host)
  })

  it('moves an open connection to a renewed certificate before the old one ends, and drops no command', async () => {
    await using fleet = await TrustFleet.open(directory(), 1, (config) => ({
      ...config,
      // Dated back by five minutes, so that 70 percent of its life are over in three seconds.
      certificates: { ...config.certificates, hostMs: 133_000 }
    }))
    const [host] = fleet.hosts
    assert.ok(host)
    const connections = () => fleet.lines.filter((line) => /host connected/.test(line)).length
    const [first, opened] = [host.serialNumber, connections()]
    const traffic = new Traffic(fleet)
    await fleet.until('two renewals, and a connection with each', async () => {
      return host.serialNumber !== first && connections() >= opened + 2
    })
    await traffic.finish()
    assert.ok(!fleet.lines.some((line) => /has expired|expired-certificate/.test(line)))
  })
})
