// What is remembered of backups: durable, bounded, told until acknowledged.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { BackupRecords, goneGoodMax, reportsAtOnceMax } from '../../../src/agent/backups/records.ts'
import { AgentDatabase } from '../../../src/agent/operations/database.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { reportOf, vmUuid } from './record-samples.ts'

class Rig implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'hostlet-records-'))
  readonly clock = new FakeClock()
  database = this.#open()
  records = this.#make()

  restart(reportsMax?: number): void {
    this.database[Symbol.dispose]()
    this.database = this.#open()
    this.records = this.#make(reportsMax)
  }

  ids(): string[] {
    return this.records.unacknowledged().map(({ id }) => id)
  }

  [Symbol.dispose](): void {
    this.database[Symbol.dispose]()
    rmSync(this.directory, { recursive: true })
  }

  #open(): AgentDatabase {
    return new AgentDatabase(join(this.directory, 'agent.db'))
  }

  #make(reportsMax?: number): BackupRecords {
    const { database, clock } = this
    return new BackupRecords({ database, clock, ...(reportsMax && { reportsMax }) })
  }
}

describe('reports of backups', () => {
  it('are told over restarts until they are acknowledged, oldest first', () => {
    using rig = new Rig()
    const reports = [reportOf(), reportOf({ good: false }), reportOf()]
    for (const report of reports) rig.records.keep(report)
    rig.restart()
    assert.deepEqual(rig.records.unacknowledged(), reports)
    rig.records.acknowledge([reports[0]?.id ?? '', randomUUID()])
    rig.restart()
    assert.deepEqual(rig.records.unacknowledged(), reports.slice(1))
  })

  it('are kept once, and count once, however often they are told', () => {
    using rig = new Rig()
    const report = reportOf({ good: false })
    rig.records.keep(report)
    rig.records.keep(report)
    assert.deepEqual(rig.ids(), [report.id])
    assert.equal(rig.records.lastRun(vmUuid, 'vault')?.failures, 1)
  })

  it('go out in pieces that a message holds', () => {
    using rig = new Rig()
    for (let count = 0; count < reportsAtOnceMax + 3; count++) rig.records.keep(reportOf())
    const first = rig.ids()
    assert.equal(first.length, reportsAtOnceMax)
    rig.records.acknowledge(first)
    assert.equal(rig.ids().length, 3)
  })

  it('that are held wait for their release, with what is known then', () => {
    using rig = new Rig()
    const [first, second] = [reportOf(), reportOf()]
    for (const report of [first, second]) rig.records.keep(report, { held: true })
    rig.records.acknowledge([first.id])
    assert.deepEqual(rig.ids(), [])
    const removed = [randomUUID()]
    rig.records.release(first.id, { nextAt: 99, removed })
    assert.deepEqual(rig.records.unacknowledged(), [{ ...first, nextAt: 99, removed }])
    rig.restart()
    assert.deepEqual(rig.ids(), [first.id])
    rig.records.releaseUpTo(rig.records.newestHeld())
    assert.deepEqual(rig.ids(), [first.id, second.id])
  })

  it('are bounded: failed ones go before good ones, older before newer', () => {
    using rig = new Rig()
    rig.restart(2)
    const [old, failed, newer, newest] = [reportOf(), reportOf({ good: false }), reportOf(), reportOf()]
    for (const report of [old, failed, newer]) rig.records.keep(report)
    assert.deepEqual(rig.ids(), [old.id, newer.id])
    rig.records.keep(newest)
    assert.deepEqual(rig.ids(), [newer.id, newest.id])
  })
})

describe('what is known of a VM', () => {
  it('is how its last run went, and since when it fails', () => {
    using rig = new Rig()
    const good = reportOf({ startedAt: 1_000 })
    rig.records.keep(good)
    for (const startedAt of [2_000, 3_000]) rig.records.keep(reportOf({ good: false, startedAt }))
    rig.records.acknowledge(rig.ids())
    rig.restart()
    const run = rig.records.lastRun(vmUuid, 'vault')
    assert.deepEqual(
      [run?.startedAt, run?.goodAt, run?.failures, run?.error?.code],
      [3_000, 1_000, 2, 'E_UNAVAILABLE']
    )
    rig.records.keep(reportOf({ startedAt: 4_000 }))
    const after = rig.records.lastRun(vmUuid, 'vault')
    assert.deepEqual([after?.goodAt, after?.failures, after?.error], [4_000, 0, undefined])
    assert.equal(rig.records.lastRun(vmUuid, 'elsewhere'), undefined)
  })

  it('is its last good backup in each repository, until the checkpoint is dropped', () => {
    using rig = new Rig()
    const good = { snapshot: randomUUID(), sequence: 4, at: 5, checkpoint: { name: 'c4', xml: '<c/>' } }
    rig.records.keepGood(vmUuid, 'vault', { ...good, sequence: 3 })
    rig.records.keepGood(vmUuid, 'vault', good)
    rig.records.keepGood(vmUuid, 'away', { ...good, checkpoint: null })
    rig.restart()
    assert.deepEqual(rig.records.lastGood(vmUuid, 'vault'), good)
    assert.deepEqual([...rig.records.allGood(vmUuid).keys()], ['away', 'vault'])
    rig.records.dropCheckpoint(vmUuid, 'vault')
    assert.deepEqual(rig.records.lastGood(vmUuid, 'vault'), { ...good, checkpoint: null })
    assert.equal(rig.records.lastGood(randomUUID(), 'vault'), undefined)
    const damage = { snapshot: good.snapshot, fault: 'pack x is missing' }
    rig.records.noteDamage(vmUuid, 'vault', damage)
    assert.deepEqual(rig.records.lastGood(vmUuid, 'vault'), { ...good, checkpoint: null, damage })
    rig.records.keepGood(vmUuid, 'vault', good)
    assert.deepEqual(rig.records.lastGood(vmUuid, 'vault'), good)
  })

  it('is since when it has its schedule: anew with another one, or after it had none', async () => {
    using rig = new Rig()
    const [daily, hourly] = [
      { target: 'vault', cron: '0 3 * * *' },
      { target: 'vault', everyMs: 3_600_000 }
    ]
    const begin = rig.clock.now()
    assert.equal(rig.records.scheduledSince(vmUuid, daily), begin)
    await rig.clock.advance(1_000)
    rig.restart()
    rig.records.keepSchedules(new Set([vmUuid]))
    assert.equal(rig.records.scheduledSince(vmUuid, { ...daily, keep: { last: 3 } }), begin)
    assert.equal(rig.records.scheduledSince(vmUuid, hourly), begin + 1_000)
    await rig.clock.advance(1_000)
    rig.records.keepSchedules(new Set([randomUUID()]))
    assert.equal(rig.records.scheduledSince(vmUuid, hourly), begin + 2_000)
  })

  it('is forgotten with the VM, but for its last good backup, of which the newest stay', () => {
    using rig = new Rig()
    const good = { snapshot: randomUUID(), sequence: 1, at: 5, checkpoint: null }
    rig.records.keep(reportOf())
    rig.records.keepGood(vmUuid, 'vault', good)
    rig.records.prune(new Set([vmUuid]))
    assert.notEqual(rig.records.lastRun(vmUuid, 'vault'), undefined)
    rig.database.transaction(() => {
      for (let at = 10; at < 10 + goneGoodMax; at++)
        rig.records.keepGood(randomUUID(), 'vault', { ...good, at })
    })
    rig.records.prune(new Set([vmUuid]))
    assert.deepEqual(rig.records.lastGood(vmUuid, 'vault'), good)
    rig.records.prune(new Set())
    assert.equal(rig.records.lastRun(vmUuid, 'vault'), undefined)
    assert.equal(rig.records.lastGood(vmUuid, 'vault'), undefined)
  })
})
