// Health probes on the command line: how they are written, and in which word many are told.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { healthWord, parseHealthProbe } from '../../src/cli/health-probe.ts'
import type { ProbeHealth } from '../../src/protocol/vm.ts'

describe('a health probe', () => {
  it('is a kind and a port, with a name or one made of them, and a path for HTTP', () => {
    assert.deepEqual(parseHealthProbe('db=tcp:5432'), { name: 'db', kind: 'tcp', port: 5432 })
    assert.deepEqual(parseHealthProbe('tls:443'), { name: 'tls-443', kind: 'tls', port: 443 })
    assert.deepEqual(parseHealthProbe('http:80/health?a=b'), {
      name: 'http-80',
      kind: 'http',
      port: 80,
      path: '/health?a=b'
    })
  })

  it('is refused otherwise, with the form that it has', () => {
    for (const text of ['', 'tcp', 'udp:53', 'tcp:x', 'tcp:80/path', 'tcp:0', 'tcp:65536', '=tcp:80'])
      assert.throws(() => parseHealthProbe(text), { code: 'E_BAD_REQUEST' }, text)
  })

  it('is told together with others by the worst', () => {
    const of = (...states: ProbeHealth['state'][]) =>
      healthWord(states.map((state, index) => ({ name: `p${index}`, state, since: 0 })))
    assert.equal(healthWord(undefined), '-')
    assert.equal(of('healthy', 'healthy'), 'healthy')
    assert.equal(of('unhealthy'), 'unhealthy')
    assert.equal(of('healthy', 'unknown', 'unhealthy'), '1 of 3 unhealthy')
    assert.equal(of('healthy', 'unknown'), '1 of 2 unknown')
  })
})
