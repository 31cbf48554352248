// The fleet as series: what is known now, of hosts that are away nothing that is old, and all of it however many slices it takes.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import { hostSampleMetrics, vmSampleMetrics } from '../../../src/protocol/exported-metrics.ts'
import type { HostSample, MetricsSample, VmSample } from '../../../src/protocol/metrics.ts'
import type { VmSummary } from '../../../src/protocol/vm.ts'
import {
  type FleetReaderOptions,
  readFleet,
  sliceRowsMax
} from '../../../src/scheduler/metrics/fleet-reader.ts'
import { readExposition } from '../../support/exposition.ts'
import {
  backupRecord,
  backupReport,
  hostFacts,
  hostSample,
  uuid1,
  vmSample,
  vmSummary
} from '../support/samples.ts'
import { TestStore } from '../support/test-store.ts'

const now = 10_000_000
const minuteMs = 60_000
const vm = { host: 'kvm-1', vm: 'web-1', uuid: uuid1 }

class Fleet implements AsyncDisposable {
  readonly files = new TestStore()

  get store() {
    return this.files.store
  }

  async connect(id: string, { skewMs = 0, conditions = [] as { id: string; severity: 'warning' }[] } = {}) {
    await this.files.host(id)
    await this.store.hosts.connected(id, {
      connection: `of ${id}`,
      connectedAt: now - 5_000,
      agentVersion: '0.1.0',
      instance: randomUUID(),
      verbs: []
    })
    const told = conditions.map((condition) => ({ ...condition, message: 'look', since: 1 }))
    await this.store.hosts.heartbeat(
      id,
      {
        type: 'heartbeat',
        sentAt: now + skewMs,
        operationsRunning: 2,
        operationsWaiting: 1,
        hypervisor: 'connected',
        conditions: told
      },
      { at: now, instance: 'agent' }
    )
  }

  async report(host: string, vms: readonly VmSummary[]) {
    const facts = hostFacts(host)
    await this.store.hosts.inventory(
      host,
      { type: 'inventory', at: now, facts, vms: [...vms], foreign: [] },
      now
    )
  }

  sample(
    host: string,
    at: number,
    { figures = {}, vms = [] }: { figures?: Partial<HostSample>; vms?: VmSample[] } = {}
  ) {
    const sample: MetricsSample = { at, host: hostSample(figures), vms }
    return this.store.metrics.add(host, [sample])
  }

  async read(change: Partial<FleetReaderOptions> = {}) {
    const series = await readFleet({
      store: this.store.fleet,
      now,
      metricsIntervalMs: 10_000,
      vms: true,
      ...change
    })
    const families = readExposition([...series.pieces()].join(''))
    return (name: string) => families.get(name)?.values.map(({ labels, value }) => [labels, value])
  }

  async [Symbol.asyncDispose]() {
    await this.files[Symbol.asyncDispose]()
  }
}

function counts(values: readonly (readonly unknown[])[] | undefined): Record<string, unknown> {
  return Object.fromEntries(
    (values ?? []).map(([labels, value]) => [(labels as { state: string }).state, value])
  )
}

describe('the metrics of the fleet', () => {
  it('show every figure of the newest samples', async () => {
    await using fleet = new Fleet()
    await fleet.connect('kvm-1')
    await fleet.report('kvm-1', [vmSummary()])
    const figures = Object.fromEntries(hostSampleMetrics.map(({ field }, index) => [field, index + 1]))
    const ofVm = Object.fromEntries(vmSampleMetrics.map(({ field }, index) => [field, index + 1]))
    await fleet.sample('kvm-1', now - 20_000)
    await fleet.sample('kvm-1', now - 10_000, { figures, vms: [vmSample(ofVm)] })
    const shown = await fleet.read()
    for (const [index, { name }] of hostSampleMetrics.entries())
      assert.deepEqual(shown(name), [[{ host: 'kvm-1' }, index + 1]], name)
    for (const [index, { name }] of vmSampleMetrics.entries())
      assert.deepEqual(shown(name), [[vm, index + 1]], name)
    assert.deepEqual(shown('hostlet_host_up'), [[{ host: 'kvm-1' }, 1]])
    assert.deepEqual(shown('hostlet_host_operations_running'), [[{ host: 'kvm-1' }, 2]])
    assert.deepEqual(shown('hostlet_vm_state'), [[{ ...vm, state: 'running' }, 1]])
  })

  it('show of a host that is away that it is, and no figure, condition or state of before', async () => {
    await using fleet = new Fleet()
    await fleet.connect('kvm-1', { conditions: [{ id: 'clock-skew', severity: 'warning' }] })
    await fleet.report('kvm-1', [vmSummary({ health: [{ name: 'web', state: 'healthy', since: 1 }] })])
    await fleet.sample('kvm-1', now - 10_000, { vms: [vmSample({ cpuSecondsTotal: 1 })] })
    const before = await fleet.read()
    assert.equal(before('hostlet_host_condition')?.length, 1)
    assert.equal(before('hostlet_vm_probe_healthy')?.length, 1)
    await fleet.store.hosts.away('kvm-1', 'of kvm-1', 'gone')
    const shown = await fleet.read()
    assert.deepEqual(shown('hostlet_host_up'), [[{ host: 'kvm-1' }, 0]])
    assert.equal(shown('hostlet_host_last_seen_timestamp_seconds')?.length, 1)
    for (const name of [
      'hostlet_host_cpu_used_ratio',
      'hostlet_host_condition',
      'hostlet_host_libvirt_connected',
      'hostlet_host_clock_skew_seconds',
      'hostlet_vm_state',
      'hostlet_vm_probe_healthy',
      'hostlet_vm_cpu_seconds_total'
    ])
      assert.equal(shown(name), undefined, name)
    assert.equal(counts(shown('hostlet_scheduler_vms')).unknown, 1)
  })

  it('leave out samples that are old, by the clock of their host', async () => {
    await using fleet = new Fleet()
    await fleet.connect('kvm-1')
    await fleet.connect('kvm-2', { skewMs: -5 * minuteMs })
    await fleet.connect('kvm-3')
    await fleet.sample('kvm-1', now - 5 * minuteMs)
    await fleet.sample('kvm-2', now - 5 * minuteMs)
    await fleet.sample('kvm-3', now + 5 * minuteMs)
    const shown = await fleet.read()
    assert.deepEqual(
      shown('hostlet_host_cpu_used_ratio')?.map(([labels]) => labels),
      [{ host: 'kvm-2' }]
    )
  })

  it('leave out revoked hosts, and count hosts by state', async () => {
    await using fleet = new Fleet()
    await fleet.connect('kvm-1')
    await fleet.connect('kvm-2')
    await fleet.files.host('kvm-3')
    await fleet.store.hosts.revoke('kvm-2', now)
    const shown = await fleet.read()
    assert.deepEqual(
      shown('hostlet_host_up')?.map(([labels, value]) => [(labels as { host: string }).host, value]),
      [
        ['kvm-1', 1],
        ['kvm-3', 0]
      ]
    )
    assert.deepEqual(counts(shown('hostlet_scheduler_hosts')), { new: 1, connected: 1, away: 0, revoked: 1 })
  })

  it('tell how old backups are, and for how long they are overdue, also while the host is away', async () => {
    await using fleet = new Fleet()
    await fleet.connect('kvm-1')
    await fleet.report('kvm-1', [vmSummary()])
    const goodAt = now - 120 * minuteMs
    const record = backupRecord('kvm-1', { at: goodAt })
    const { backups } = fleet.store
    await backups.learn('kvm-1', { kind: 'run', report: backupReport(randomUUID(), record) }, goodAt)
    const schedule = { target: 'main', everyMs: 60 * minuteMs }
    await backups.learn('kvm-1', { kind: 'schedule', uuid: uuid1, schedule }, goodAt)
    await fleet.store.hosts.away('kvm-1', 'of kvm-1', 'gone')
    const shown = await fleet.read()
    const labels = { ...vm, target: 'main' }
    assert.deepEqual(shown('hostlet_backup_last_success_timestamp_seconds'), [[labels, goodAt / 1_000]])
    assert.deepEqual(shown('hostlet_backup_last_duration_seconds'), [[labels, 1.5]])
    assert.deepEqual(shown('hostlet_backup_last_stored_bytes'), [[labels, record.storedBytes]])
    // Due an hour after the good one, with a quarter of an hour of grace.
    assert.deepEqual(shown('hostlet_backup_overdue_seconds'), [[labels, 45 * 60]])
  })

  it('follow cron schedules, and skip those that nobody can follow', async () => {
    await using fleet = new Fleet()
    await fleet.connect('kvm-1')
    const names = ['a', 'b'].map((name) => vmSummary({ name, uuid: randomUUID() }))
    await fleet.report('kvm-1', names)
    for (const [index, cron] of ['0 3 * * *', 'no cron'].entries()) {
      const uuid = names[index]?.uuid ?? ''
      const schedule = { target: 'main', cron, timeZone: 'UTC' }
      await fleet.store.backups.learn('kvm-1', { kind: 'schedule', uuid, schedule }, 0)
    }
    const shown = await fleet.read({ now: 3 * 24 * 60 * minuteMs })
    assert.deepEqual(
      shown('hostlet_backup_overdue_seconds')?.map(([labels]) => (labels as { vm: string }).vm),
      ['a']
    )
  })

  it('are whole over many slices, and without VMs where they are not wanted', async () => {
    await using fleet = new Fleet()
    await fleet.connect('kvm-1')
    const count = sliceRowsMax * 2 + 1
    const vms = Array.from({ length: count }, (_, index) =>
      vmSummary({ name: `vm-${index}`, uuid: randomUUID() })
    )
    await fleet.report('kvm-1', vms)
    const shown = await fleet.read()
    assert.equal(
      new Set(shown('hostlet_vm_cpus')?.map(([labels]) => (labels as { vm: string }).vm)).size,
      count
    )
    assert.equal(counts(shown('hostlet_scheduler_vms')).running, count)
    const fewer = await fleet.read({ vms: false })
    assert.equal(fewer('hostlet_vm_cpus'), undefined)
    assert.equal(counts(fewer('hostlet_scheduler_vms')).running, count)
  })

  it('count open operations by state and verb', async () => {
    await using fleet = new Fleet()
    await fleet.connect('kvm-1')
    await fleet.files.command('kvm-1')
    await fleet.files.command('kvm-1')
    const shown = await fleet.read()
    assert.deepEqual(shown('hostlet_scheduler_operations_open'), [
      [{ state: 'waiting', verb: 'host.facts' }, 2]
    ])
  })
})
