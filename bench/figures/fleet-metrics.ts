// Figure: one scrape of the scheduler by Prometheus with 5,000 hosts of 20 VMs: time, size, and how long others wait meanwhile.

import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/lib/clock.ts'
import { FleetMetrics } from '../../src/scheduler/metrics/fleet-metrics.ts'
import { SchedulerTallies } from '../../src/scheduler/metrics/scheduler-tallies.ts'
import { Sqlite } from '../../src/scheduler/store/sqlite.ts'
import { SqliteStore } from '../../src/scheduler/store/sqlite-store.ts'
import { type Figure, measureRow } from '../harness.ts'

const vmsPerHost = 20
/** Daily ones of a week. */
const backupsPerVm = 7
const bounds = { keepMs: 86_400_000, rowsMax: 10_000_000 }

export const figure: Figure = {
  id: 'fleet-metrics',
  title: 'One scrape of a large fleet',
  run: async ({ quick, log }) => {
    const hosts = quick ? 500 : 5_000
    const directory = mkdtempSync(join(tmpdir(), 'hostlet-bench-fleet-'))
    try {
      log(`a store of ${hosts} hosts with ${vmsPerHost} VMs each`)
      fillStore(directory, hosts)
      const all = await scrapes(directory, { vms: true, times: quick ? 2 : 5 })
      const fewer = await scrapes(directory, { vms: false, times: quick ? 2 : 5 })
      const row = (what: string, samples: readonly number[], unit: string) =>
        measureRow({ what, samples, unit })
      return {
        rows: [
          row('scrape with every VM', all.seconds, 's'),
          row('its text', all.mib, 'MiB'),
          row('longest turn of the event loop in it', all.longestMs, 'ms'),
          row('memory above that at rest', all.memoryMib, 'MiB'),
          row('scrape without VMs', fewer.seconds, 's'),
          row('longest turn of the event loop in it', fewer.longestMs, 'ms')
        ],
        how: [
          `\`GET /metrics\` without HTTP: the text of ${hosts} hosts with ${vmsPerHost} VMs each, all connected and with a newest sample, a schedule and ${backupsPerVm} backups for each VM, read from the store and rendered in pieces that are thrown away. The longest turn is CPU time of the main thread between two rounds of the event loop: for so long any other request waits at most.`
        ]
      }
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  }
}

async function scrapes(directory: string, { vms, times }: { vms: boolean; times: number }) {
  const store = new SqliteStore(directory, { commands: bounds, metrics: bounds, events: bounds })
  connectAll(directory)
  const metrics = new FleetMetrics({
    store: store.fleet,
    clock: systemClock,
    tallies: new SchedulerTallies(),
    version: 'bench',
    metricsIntervalMs: 3_600_000,
    expiries: () => ({ authority: 0, server: 0 })
  })
  const figures = {
    seconds: [] as number[],
    mib: [] as number[],
    longestMs: [] as number[],
    memoryMib: [] as number[]
  }
  const before = process.memoryUsage.rss()
  for (let time = 0; time <= times; time += 1) {
    const turns = watchTurns()
    const startedAt = performance.now()
    let bytes = 0
    let highest = before
    for await (const piece of await metrics.read({ vms })) {
      bytes += Buffer.byteLength(piece)
      highest = Math.max(highest, process.memoryUsage.rss())
    }
    const longestMs = turns.end()
    // The first one warms up.
    if (time === 0) continue
    figures.seconds.push((performance.now() - startedAt) / 1_000)
    figures.mib.push(bytes / 1024 ** 2)
    figures.longestMs.push(longestMs)
    figures.memoryMib.push((highest - before) / 1024 ** 2)
  }
  await store.close()
  return figures
}

/** In CPU time, which other processes of the machine do not lengthen. */
function watchTurns(): { end(): number } {
  const cpuMs = () => {
    const { user, system } = process.threadCpuUsage()
    return (user + system) / 1_000
  }
  let longestMs = 0
  let last = cpuMs()
  let isOver = false
  const turn = () => {
    const now = cpuMs()
    longestMs = Math.max(longestMs, now - last)
    last = now
    if (!isOver) setImmediate(turn)
  }
  setImmediate(turn)
  return {
    end: () => {
      isOver = true
      return longestMs
    }
  }
}

/** A process that opens the store takes all hosts for away. */
function connectAll(directory: string): void {
  const sqlite = new Sqlite(directory)
  sqlite.run(`UPDATE host_reports SET state = 'connected'`)
  sqlite.close()
}

function fillStore(directory: string, hosts: number): void {
  const sqlite = new Sqlite(directory)
  const now = Date.now()
  sqlite.transaction(() => {
    for (let index = 0; index < hosts; index += 1) addHost(sqlite, `kvm-${index}`, now)
  })
  sqlite.close()
}

function addHost(sqlite: Sqlite, host: string, now: number): void {
  sqlite.run(
    `INSERT INTO hosts (id, hostname, enrolled_at, certificate_expires_at) VALUES (:host, :host, :now, :now)`,
    { host, now }
  )
  sqlite.run(
    `INSERT INTO host_reports (host, state, reason, connection, connected_at, last_seen_at, agent_version, instance, verbs,
       hypervisor, operations_running, operations_waiting, conditions, foreign_domains)
     VALUES (:host, 'connected', '', 'c', :now, :now, '0.1.0', 'i', '[]', 'connected', 0, 0, '[]', '[]')`,
    { host, now }
  )
  sqlite.run('INSERT INTO host_metrics (host, at, sample) VALUES (:host, :now, :sample)', {
    ...{ host, now },
    sample: JSON.stringify(hostFigures)
  })
  for (let number = 0; number < vmsPerHost; number += 1)
    addVm(sqlite, { host, name: `${host}-vm-${number}`, now })
}

function addVm(sqlite: Sqlite, { host, name, now }: { host: string; name: string; now: number }): void {
  const uuid = randomUUID()
  sqlite.run(
    `INSERT INTO vms (name, uuid, host, wanted, generation, profile, cpus, memory_bytes, created_at)
     VALUES (:name, :uuid, :host, 'running', 1, 'starter', 2, 2147483648, :now)`,
    { name, uuid, host, now }
  )
  const summary = {
    name,
    uuid,
    state: 'running',
    reason: 'booted',
    wanted: 'running',
    generation: 1,
    profile: 'starter'
  }
  sqlite.run(
    `INSERT INTO vm_reports (host, name, uuid, summary, reported_at, present)
     VALUES (:host, :name, :uuid, :summary, :now, 1)`,
    { host, name, uuid, now, summary: JSON.stringify({ ...summary, cpus: 2, memoryBytes: 2 ** 31 }) }
  )
  sqlite.run('INSERT INTO vm_metrics (host, uuid, at, sample) VALUES (:host, :uuid, :now, :sample)', {
    ...{ host, uuid, now },
    sample: JSON.stringify({ name, uuid, state: 'running', ...vmFigures })
  })
  sqlite.run('INSERT INTO backup_schedules (uuid, schedule, set_at) VALUES (:uuid, :schedule, :now)', {
    ...{ uuid, now },
    schedule: JSON.stringify({ target: 'main', cron: '0 3 * * *', timeZone: 'Europe/Berlin' })
  })
  for (let number = 1; number <= backupsPerVm; number += 1)
    sqlite.run(
      `INSERT INTO backup_snapshots (snapshot, uuid, target, vm, host, number, taken_at, record)
       VALUES (:snapshot, :uuid, 'main', :name, :host, :number, :at, :record)`,
      {
        ...{
          snapshot: randomUUID(),
          uuid,
          name,
          host,
          number,
          at: now - (backupsPerVm - number) * 86_400_000
        },
        record: JSON.stringify(backupFigures)
      }
    )
}

const hostFigures = {
  ...{ cpuUsedRatio: 0.42, cpuStealRatio: 0, loadAverage1m: 3.2, cpuSecondsTotal: 123_456.78 },
  ...{ memoryTotalBytes: 2 ** 38, memoryAvailableBytes: 2 ** 37, swapUsedBytes: 0 },
  ...{ cpuPressureRatio: 0.01, memoryPressureRatio: 0, ioPressureRatio: 0.02 },
  ...{ poolCapacityBytes: 2 ** 42, poolAvailableBytes: 2 ** 41, uptimeSeconds: 8_640_000 },
  ...{ receiveBytesTotal: 123_456_789_012, transmitBytesTotal: 98_765_432_109 },
  ...{ diskReadBytesTotal: 123_456_789_012, diskWriteBytesTotal: 98_765_432_109 }
}

const vmFigures = {
  ...{
    cpuSecondsTotal: 12_345.678,
    cpuCoresUsed: 0.5,
    memoryMaximumBytes: 2 ** 31,
    memoryResidentBytes: 2 ** 30
  },
  ...{ diskCapacityBytes: 2 ** 35, diskAllocationBytes: 2 ** 33, diskReadBytesTotal: 12_345_678_901 },
  ...{ diskWriteBytesTotal: 23_456_789_012, diskReadsTotal: 1_234_567, diskWritesTotal: 2_345_678 },
  ...{ receiveBytesTotal: 3_456_789_012, transmitBytesTotal: 4_567_890_123 },
  ...{
    receivePacketsTotal: 3_456_789,
    transmitPacketsTotal: 4_567_890,
    receiveDropsTotal: 0,
    transmitDropsTotal: 0
  }
}

const backupFigures = {
  ...{
    durationMs: 12_345,
    readBytes: 2 ** 30,
    storedBytes: 2 ** 28,
    kind: 'incremental',
    consistency: 'crash'
  },
  disks: [{ role: 'root', sizeBytes: 2 ** 35, allocatedBytes: 2 ** 33 }]
}
