// The scheduler as a whole: what the first start makes, what cannot start, and what stays when it stops.

import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { connect } from 'node:tls'
import { silentLogger } from '../../src/lib/log.ts'
import type { CreatedToken, StatusView } from '../../src/protocol/api.ts'
import { startScheduler } from '../../src/scheduler/app.ts'
import { certificateIntervalMs } from '../../src/scheduler/housekeeping.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { defaultConfig, TestScheduler } from './support/test-scheduler.ts'

const dayMs = 86_400_000

async function inDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-app-'))
  try {
    await work(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const options = () => ({ clock: new FakeClock(Date.now()), log: silentLogger })

describe('the scheduler', { timeout: 60_000 }, () => {
  it('makes at its first start everything that it needs, for its own eyes only', async () => {
    await using scheduler = await TestScheduler.start()
    const names = readdirSync(scheduler.directory).filter((name) => !name.includes('.db-'))
    assert.deepEqual(names.sort(), [
      ...['admin.key', 'ca-key.pem', 'ca.pem', 'command-key.json', 'observed.db'],
      ...['scheduler.db', 'server-key.pem', 'server.pem']
    ])
    for (const name of names)
      assert.equal(statSync(join(scheduler.directory, name)).mode & 0o777, 0o600, name)
    assert.match(scheduler.adminKey, /^hlk_[A-Za-z0-9_-]{43}$/)
    assert.ok(!scheduler.log.text().includes(scheduler.adminKey))
    assert.match(scheduler.log.text(), /first admin key written/)
  })

  it('is the same after a restart: authority, keys and admin key', async () => {
    await using scheduler = await TestScheduler.start()
    const { caHash } = scheduler.running
    const key = scheduler.adminKey
    await scheduler.stop()
    await scheduler.startAgain()
    assert.equal(scheduler.running.caHash, caHash)
    assert.equal(scheduler.adminKey, key)
    const status = await scheduler.apiWith(key).get<StatusView>('/v1/status')
    assert.equal(status.caHash, caHash)
  })

  it('tells hosts the advertised addresses, and names them in its certificate', async () => {
    await using scheduler = await TestScheduler.start((config) => ({
      ...config,
      advertise: ['https://sched-1.example.org:7443', 'https://[2001:db8::1]:7443']
    }))
    const agent = await withLoopback(scheduler)
    assert.deepEqual(agent.schedulerUrls, [
      'wss://sched-1.example.org:7443/v1/agent',
      'wss://[2001:db8::1]:7443/v1/agent'
    ])
    const certificate = new X509Certificate(readFileSync(join(scheduler.directory, 'server.pem')))
    assert.ok(certificate.checkHost('sched-1.example.org'))
    assert.ok(certificate.checkIP('2001:db8::1'))
  })

  it('renews its certificate while it runs, and shows the new one from then on', async () => {
    // Begun so long ago that both certificates are valid now, when TLS looks.
    await using scheduler = await TestScheduler.start(
      (config) => ({ ...config, certificates: { ...config.certificates, serverMs: 2 * dayMs } }),
      Date.now() - 1.5 * dayMs
    )
    const first = await shownCertificate(scheduler)
    scheduler.clock.jump(1.2 * dayMs)
    await scheduler.clock.advance(certificateIntervalMs)
    for (;;) {
      const shown = await shownCertificate(scheduler)
      if (shown.serialNumber === first.serialNumber) continue
      assert.ok(shown.validToDate > first.validToDate)
      break
    }
  })

  describe('does not start, and leaves nothing running,', () => {
    it('when its port is taken', () =>
      inDirectory(async (directory) => {
        const other = createServer().listen(0, '127.0.0.1')
        await once(other, 'listening')
        const address = other.address()
        assert.ok(typeof address === 'object' && address !== null)
        const config = { ...defaultConfig(directory), listen: { address: '127.0.0.1', port: address.port } }
        await assert.rejects(startScheduler(config, options()), {
          code: 'E_UNAVAILABLE',
          message: /cannot listen on .*EADDRINUSE.*change "listen"/
        })
        other.close()
        await (await startScheduler(config, options())).stop()
      }))

    it('when its directory is a file', () =>
      inDirectory(async (directory) => {
        const path = join(directory, 'file')
        writeFileSync(path, '')
        await assert.rejects(startScheduler(defaultConfig(path), options()), { code: 'E_UNAVAILABLE' })
      }))

    it('when a key of it is damaged', () =>
      inDirectory(async (directory) => {
        await (await startScheduler(defaultConfig(directory), options())).stop()
        writeFileSync(join(directory, 'command-key.json'), 'x')
        await assert.rejects(startScheduler(defaultConfig(directory), options()), { code: 'E_CORRUPT' })
      }))
  })

  it('stops once, however often it is asked to', async () => {
    await using scheduler = await TestScheduler.start()
    const { running } = scheduler
    await running.stop()
    await running.stop()
    assert.equal(scheduler.log.entries.filter(({ message }) => message === 'scheduler stopped').length, 1)
    assert.equal(scheduler.clock.pending, 0)
  })
})

async function shownCertificate(scheduler: TestScheduler): Promise<X509Certificate> {
  const socket = connect({ host: '127.0.0.1', port: scheduler.running.port, ca: scheduler.api.ca })
  await once(socket, 'secureConnect')
  const certificate = socket.getPeerX509Certificate()
  socket.destroy()
  assert.ok(certificate)
  return certificate
}

/** Enrolls over the loopback, whatever is advertised. */
async function withLoopback(scheduler: TestScheduler) {
  const { ApiClient } = await import('./support/api-client.ts')
  const { enrollAgent } = await import('./support/test-agent.ts')
  const url = `https://127.0.0.1:${scheduler.running.port}`
  const caFile = scheduler.running.caFile
  const { token } = await new ApiClient({ url, caFile, key: scheduler.adminKey }).post<CreatedToken>(
    '/v1/tokens'
  )
  const api = new ApiClient({ url, caFile })
  return (await enrollAgent({ api, token, hostname: 'kvm-1', address: () => url })).reply
}
