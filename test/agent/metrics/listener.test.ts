// The port of the metrics: only on the loopback, only /metrics, and a port that is taken is told.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect, createServer } from 'node:net'
import { describe, it } from 'node:test'
import { connectionMsMax, MetricsListener } from '../../../src/agent/metrics/listener.ts'
import { parseLoopback } from '../../../src/agent/metrics/loopback.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { createLogger } from '../../../src/lib/log-output.ts'
import { FakeClock } from '../../support/fake-clock.ts'

const log = createLogger({ format: 'json', level: 'error', stream: { write: () => undefined } })
const clock = systemClock
const free = { address: '127.0.0.1', port: 0 }

describe('an address of the loopback', () => {
  it('is one of 127.0.0.0/8 or ::1, with a port', () => {
    assert.deepEqual(parseLoopback('127.0.0.1:9177'), { address: '127.0.0.1', port: 9_177 })
    assert.deepEqual(parseLoopback('127.1.2.3:1'), { address: '127.1.2.3', port: 1 })
    assert.deepEqual(parseLoopback('[::1]:9177'), { address: '::1', port: 9_177 })
  })

  it('is nothing else', () => {
    for (const text of [
      '0.0.0.0:9177',
      '[::]:9177',
      '10.0.0.1:9177',
      '127.0.0.256:9177',
      '127.0.0.1',
      '127.0.0.1:0',
      '127.0.0.1:70000',
      '127.0.0.1.example.org:9177',
      'localhost:9177',
      ':9177',
      '9177',
      ''
    ])
      assert.equal(parseLoopback(text), undefined, text)
  })
})

describe('the port of the metrics', () => {
  it('answers with them, and with nothing else', async () => {
    const handle = async () => ({ type: 'text/plain; version=0.0.4', body: 'a 1\n' })
    await using listener = await MetricsListener.open({ ...free, log, clock, handle })
    const url = `http://127.0.0.1:${listener.port}`
    const metrics = await fetch(`${url}/metrics?x=1`)
    assert.equal(metrics.headers.get('content-type'), 'text/plain; version=0.0.4')
    assert.equal(await metrics.text(), 'a 1\n')
    assert.equal((await fetch(`${url}/`)).status, 404)
    assert.equal((await fetch(`${url}/metrics`, { method: 'POST' })).status, 405)
  })

  it('says that they could not be told, and goes on', async () => {
    let fails = true
    const handle = async () => {
      if (fails) throw new Error('secret')
      return { type: 'text/plain', body: 'a 1\n' }
    }
    await using listener = await MetricsListener.open({ ...free, log, clock, handle })
    const url = `http://127.0.0.1:${listener.port}/metrics`
    const failed = await fetch(url)
    assert.equal(failed.status, 500)
    assert.doesNotMatch(await failed.text(), /secret/)
    fails = false
    assert.equal((await fetch(url)).status, 200)
  })

  it('cuts who does not read its answer', async () => {
    const moved = new FakeClock()
    const asked = Promise.withResolvers<void>()
    const body = 'x'.repeat(32_000_000)
    const handle = async () => {
      asked.resolve()
      return { type: 'text/plain', body }
    }
    await using listener = await MetricsListener.open({ ...free, log, clock: moved, handle })
    const slow = connect(listener.port, '127.0.0.1').pause()
    slow.write('GET /metrics HTTP/1.1\r\nhost: agent\r\n\r\n')
    await asked.promise
    await moved.advance(connectionMsMax)
    let bytes = 0
    slow.on('data', (data) => (bytes += data.length)).on('error', () => undefined)
    await once(slow.resume(), 'close')
    assert.ok(bytes < body.length, `${bytes} bytes were read`)
    assert.equal(moved.pending, 0)
  })

  it('that is taken is refused with what to do', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    const opened = MetricsListener.open({
      ...free,
      port,
      log,
      clock,
      handle: async () => ({ type: '', body: '' })
    })
    await assert.rejects(opened, { code: 'E_UNAVAILABLE', message: /metrics\.listen/ })
    other.close()
  })
})
