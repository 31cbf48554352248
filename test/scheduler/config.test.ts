// The scheduler's configuration: the sample shows the defaults, and faults are told with place and remedy.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { parseConfigText } from '../../src/lib/config-file.ts'
import { loadSchedulerConfig, SchedulerConfigSchema } from '../../src/scheduler/config.ts'

const sample = join(import.meta.dirname, '../../config/scheduler.yaml')

describe("the scheduler's configuration", () => {
  it('has a sample that shows the defaults', () => {
    assert.deepEqual(loadSchedulerConfig(sample), parseConfigText('', 'empty', SchedulerConfigSchema))
  })

  it('reaches itself by default under this machine, localhost and the loopback', () => {
    const { names, listen } = parseConfigText('', 'empty', SchedulerConfigSchema)
    assert.ok(names.includes('localhost') && names.includes('127.0.0.1'))
    assert.equal(listen.port, 7443)
  })

  const faults: readonly [string, string, RegExp][] = [
    ['an unknown key', 'lisen: {port: 1}', /^x:1:1: .*"lisen".*did you mean "listen"/],
    ['a port that is none', 'listen: {port: 70000}', /^x:1:16: .*port/],
    ['an address that is a name', 'listen: {address: localhost}', /^x:1:19: .*IP address/],
    ['a name with a slash', 'names: [a/b]', /^x:1:9: .*DNS name/],
    ['no names', 'names: []', /^x:1:8: /],
    ['a plain http address', 'advertise: ["http://a"]', /^x:1:13: .*https:/],
    ['a relative directory', 'stateDirectory: state', /^x:1:17: .*absolute path/],
    ['a bound of nothing', 'metrics: {rowsMax: 0}', /^x:1:20: /]
  ]
  for (const [name, text, message] of faults)
    it(`refuses ${name}`, () => {
      assert.throws(() => parseConfigText(text, 'x', SchedulerConfigSchema), {
        code: 'E_BAD_REQUEST',
        message
      })
    })

  it('refuses certificates that outlive their authority', async () => {
    const { writeFileSync, mkdtempSync, rmSync } = await import('node:fs')
    const { tmpdir } = await import('node:os')
    const directory = mkdtempSync(join(tmpdir(), 'hostlet-config-'))
    const path = join(directory, 'scheduler.yaml')
    writeFileSync(path, 'certificates:\n  authorityMs: 86400000\n')
    try {
      assert.throws(() => loadSchedulerConfig(path), { message: /:2:16: expected a life of the authority/ })
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
})
