// What an agent tells Prometheus: every figure of a sample, how VMs and backups stand, and nothing that is not known.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import { AgentTallies } from '../../../src/agent/metrics/agent-tallies.ts'
import { agentMetrics } from '../../../src/agent/metrics/declarations.ts'
import { Exporter, type ExporterSources } from '../../../src/agent/metrics/exporter.ts'
import { processMetrics } from '../../../src/lib/process-metrics.ts'
import {
  backupMetrics,
  hostMetrics,
  hostSampleMetrics,
  vmMetrics,
  vmSampleMetrics
} from '../../../src/protocol/exported-metrics.ts'
import { hostSample, uuid1, vmSample, vmSummary } from '../../scheduler/support/samples.ts'
import { readExposition } from '../../support/exposition.ts'

const vm = { host: 'kvm-1', vm: 'web-1', uuid: uuid1 }

function exporterOf(change: Partial<ExporterSources> = {}): Exporter {
  return new Exporter({
    host: 'kvm-1',
    hostname: 'kvm-1.example.org',
    version: '0.1.0',
    tallies: new AgentTallies(),
    now: () => 100_000,
    sample: () => undefined,
    vms: () => [],
    backups: () => [],
    conditions: () => [],
    certificateExpiresAt: () => 500_000,
    figures: () => [],
    ...change
  })
}

function read(change: Partial<ExporterSources> = {}) {
  const families = readExposition(exporterOf(change).text())
  return (name: string) => families.get(name)?.values.map(({ labels, value }) => [labels, value])
}

function end(verb: string, outcome: 'done' | 'failed', value?: Record<string, unknown>) {
  const id = randomUUID()
  const entry = { id, claims: { verb } } as Parameters<AgentTallies['ended']>[0]
  return [
    entry,
    { command: id, outcome, startedAt: 1_000, finishedAt: 3_000, ...(value && { value }) }
  ] as const
}

describe('the metrics of an agent', () => {
  it('show every figure of the newest sample under the name that is declared for it', () => {
    const figures = Object.fromEntries(hostSampleMetrics.map(({ field }, index) => [field, index + 1]))
    const ofVm = Object.fromEntries(vmSampleMetrics.map(({ field }, index) => [field, index + 1]))
    const sample = { at: 1, host: hostSample(figures), vms: [vmSample(ofVm)] }
    const shown = read({ sample: () => sample })
    for (const [index, { name }] of hostSampleMetrics.entries())
      assert.deepEqual(shown(name), [[{ host: 'kvm-1' }, index + 1]], name)
    for (const [index, { name }] of vmSampleMetrics.entries())
      assert.deepEqual(shown(name), [[vm, index + 1]], name)
  })

  it('leave out what is not known: a VM that is off, a pool that did not answer', () => {
    const sample = {
      at: 1,
      host: hostSample({ poolCapacityBytes: 0, poolAvailableBytes: 0 }),
      vms: [vmSample()]
    }
    const shown = read({ sample: () => sample, certificateExpiresAt: () => undefined })
    assert.equal(shown('hostlet_host_pool_available_bytes'), undefined)
    assert.equal(shown('hostlet_host_cpu_pressure_ratio'), undefined)
    assert.equal(shown('hostlet_vm_cpu_seconds_total'), undefined)
    assert.equal(shown('hostlet_host_certificate_expiry_timestamp_seconds'), undefined)
  })

  it('tell how each VM is, as the newest sample or the last look saw it', () => {
    const health = [
      { name: 'web', state: 'healthy', since: 1 },
      { name: 'ssh', state: 'unhealthy', since: 1 },
      { name: 'new', state: 'unknown', since: 1 }
    ] as const
    const shown = read({
      vms: () => [vmSummary({ health: [...health] })],
      sample: () => ({ at: 1, host: hostSample(), vms: [vmSample({ state: 'paused' })] })
    })
    assert.deepEqual(shown(vmMetrics.state.name), [[{ ...vm, state: 'paused' }, 1]])
    assert.deepEqual(shown(vmMetrics.info.name), [[{ ...vm, profile: 'starter' }, 1]])
    assert.deepEqual(shown(vmMetrics.wantedRunning.name), [[vm, 1]])
    assert.deepEqual(shown(vmMetrics.probeHealthy.name), [
      [{ ...vm, probe: 'web' }, 1],
      [{ ...vm, probe: 'ssh' }, 0]
    ])
  })

  it('tell when backups were good, and for how long they are overdue', () => {
    const of = { vm: 'web-1', uuid: uuid1, target: 'main' }
    const shown = read({
      backups: () => [
        { ...of, goodAt: 50_000, durationMs: 1_500, overdueAt: 90_000 },
        { ...of, target: 'other', goodAt: undefined, durationMs: undefined, overdueAt: 200_000 }
      ]
    })
    const labels = { ...vm, target: 'main' }
    assert.deepEqual(shown(backupMetrics.lastSuccess.name), [[labels, 50]])
    assert.deepEqual(shown(backupMetrics.duration.name), [[labels, 1.5]])
    assert.deepEqual(shown(backupMetrics.overdue.name), [
      [labels, 10],
      [{ ...vm, target: 'other' }, 0]
    ])
  })

  it('name the conditions that hold', () => {
    const condition = {
      id: 'clock-skew',
      severity: 'warning',
      message: 'secret of nobody',
      since: 1
    } as const
    const shown = read({ conditions: () => [condition] })
    assert.deepEqual(shown(hostMetrics.condition.name), [
      [{ host: 'kvm-1', condition: 'clock-skew', severity: 'warning' }, 1]
    ])
  })

  it('count ends by verb and outcome, once each however often they are told', () => {
    const tallies = new AgentTallies()
    const [entry, result] = end('vm.start', 'done')
    tallies.ended(entry, result)
    tallies.ended(entry, result)
    tallies.ended(...end('vm.start', 'failed'))
    tallies.ended(...end('vm.backup', 'done', { record: { readBytes: 100, storedBytes: 10 } }))
    tallies.connected()
    const shown = read({ tallies })
    assert.deepEqual(shown(agentMetrics.ended.name), [
      [{ host: 'kvm-1', verb: 'vm.start', outcome: 'done' }, 1],
      [{ host: 'kvm-1', verb: 'vm.start', outcome: 'failed' }, 1],
      [{ host: 'kvm-1', verb: 'vm.backup', outcome: 'done' }, 1]
    ])
    assert.deepEqual(shown(agentMetrics.backupStoredBytes.name), [[{ host: 'kvm-1' }, 10]])
    assert.deepEqual(shown(agentMetrics.schedulerConnects.name), [[{ host: 'kvm-1' }, 1]])
  })

  it('have no labels but the declared ones', () => {
    const declared = [
      ...hostSampleMetrics,
      ...vmSampleMetrics,
      ...Object.values(hostMetrics),
      ...Object.values(vmMetrics),
      ...Object.values(backupMetrics),
      ...Object.values(agentMetrics),
      ...processMetrics
    ]
    const labels = new Map(declared.map((family) => [family.name, new Set<string>(family.labels)]))
    const tallies = new AgentTallies()
    tallies.ended(...end('vm.start', 'done'))
    const text = exporterOf({
      tallies,
      vms: () => [vmSummary({ drift: [] })],
      sample: () => ({ at: 1, host: hostSample(), vms: [vmSample({ cpuSecondsTotal: 1 })] })
    }).text()
    for (const [name, { values }] of readExposition(text))
      for (const value of values)
        assert.deepEqual(
          Object.keys(value.labels).filter((label) => label !== 'le' && !labels.get(name)?.has(label)),
          [],
          name
        )
  })
})
