// The agent's configuration: the sample loads, defaults hold, faults say where and what.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { loadAgentConfig } from '../../src/agent/config.ts'

const sample = fileURLToPath(new URL('../../config/agent.yaml', import.meta.url))

describe('the configuration of the agent', () => {
  let directory: string
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-config-'))
  })
  after(() => rmSync(directory, { recursive: true }))

  function load(text: string, environment = {}) {
    const path = join(directory, 'agent.yaml')
    writeFileSync(path, text)
    return loadAgentConfig(path, environment)
  }

  function refusal(text: string): string {
    try {
      load(text)
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'E_BAD_REQUEST')
      return (error as Error).message.replaceAll(`${directory}/`, '')
    }
    throw new assert.AssertionError({ message: 'expected a refusal' })
  }

  it('has a sample that says exactly the defaults', () => {
    assert.deepEqual(loadAgentConfig(sample, {}), load(''))
  })

  it('fills in defaults around what is given', () => {
    const config = load('libvirt: { uri: "test:///default" }\noperations: { concurrencyMax: 2 }')
    assert.equal(config.libvirt.uri, 'test:///default')
    assert.deepEqual(config.operations, { concurrencyMax: 2, waitingMax: 64 })
    assert.equal(config.stateDirectory, '/var/lib/hostlet')
  })

  it('points at an unknown key and suggests the one that was meant', () => {
    assert.equal(
      refusal('libvirt:\n  urii: qemu:///system\n'),
      'agent.yaml:2:3: expected a known key, not "urii" (did you mean "uri"?)'
    )
  })

  it('lists all faults in the order of the file, each with what was expected', () => {
    assert.deepEqual(
      refusal('stateDirectory: var\nlog:\n  level: wran\noperations: { concurrencyMax: many }').split('\n'),
      [
        'agent.yaml:1:17: expected an absolute path',
        'agent.yaml:3:10: expected one of debug, info, warn, error (did you mean "warn"?)',
        'agent.yaml:4:31: expected a whole number, not text'
      ]
    )
  })

  it('refuses profiles that would share a subnet or a bridge', () => {
    const profile = (name: string, bridge: string, subnet: string) =>
      `  ${name}: { network: ${name}, bridge: ${bridge}, subnet: ${subnet} }\n`
    const text = `profiles:\n${profile('a', 'br-a', '10.1.0.0/16')}${profile('b', 'br-a', '10.1.7.0/24')}`
    assert.match(refusal(text), /agent\.yaml:3:28: expected another bridge than that of profile "a"/)
    assert.match(refusal(text), /agent\.yaml:3:42: expected another subnet than that of profile "a"/)
  })

  it('takes a port of the loopback for the metrics, and refuses every other with the reason', () => {
    assert.match(
      refusal('metrics:\n  listen: 0.0.0.0:9177'),
      /agent\.yaml:2:11: expected a port of the loopback .* nobody has to log in there/
    )
  })

  it('lets the environment win over the file for the log', () => {
    const config = load('log: { level: info, format: json }', { HOSTLET_LOG_LEVEL: 'debug' })
    assert.deepEqual(config.log, { level: 'debug', format: 'json' })
  })
})
