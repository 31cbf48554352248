// The agent's own clockwork of backups: what it begins and when, what it remembers over restarts, and what it tells.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { BackupRecords } from '../../../src/agent/backups/records.ts'
import { reportOf } from '../../../src/agent/backups/records-report.ts'
import { BackupScheduler, type ScheduledVm } from '../../../src/agent/backups/schedule.ts'
import { AgentDatabase } from '../../../src/agent/operations/database.ts'
import type { LocalOperation, LocalRequest } from '../../../src/agent/operations/local.ts'
import { HostletError } from '../../../src/errors.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import type { BackupSchedule } from '../../../src/protocol/backup.ts'
import type { CommandResult } from '../../../src/protocol/command.ts'
import { FakeClock, settle } from '../../support/fake-clock.ts'
import { recordOf } from './record-samples.ts'

const minuteMs = 60_000
const hourMs = 60 * minuteMs
const hourly: BackupSchedule = { target: 'vault', everyMs: hourMs }
const nightly: BackupSchedule = { target: 'vault', cron: '0 3 * * *', timeZone: 'UTC' }

interface Begun extends LocalRequest {
  readonly id: string
  readonly startedAt: number
  end(result: Partial<CommandResult>): void
}

/** A scheduler on a real database, with operations that end when the test says so, or at once. */
class Rig implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'hostlet-schedule-'))
  readonly clock = new FakeClock(Date.parse('2030-01-01T00:00:00Z'))
  readonly database = new AgentDatabase(join(this.directory, 'agent.db'))
  readonly records = new BackupRecords(this)
  readonly begun: Begun[] = []
  vms: ScheduledVm[] = []
  ready = true
  told = 0
  looks = 0
  /** What becomes of a run; left open when undefined. */
  outcome: ((begun: LocalRequest) => Partial<CommandResult> | undefined) | undefined = () => ({})
  refuse: HostletError | undefined
  resumed: LocalOperation[] = []
  paused = false
  scheduler = this.#make()

  async start(...vms: [name: string, schedule: BackupSchedule][]): Promise<void> {
    this.vms = vms.map(([name, schedule]) => ({ name, uuid: uuidOf(name), generation: 1, schedule }))
    this.scheduler.begin()
    await settle()
  }

  /** As when the agent ends and comes back. */
  async restart(awayMs = 0): Promise<void> {
    await this.scheduler[Symbol.asyncDispose]()
    await this.clock.advance(awayMs)
    this.scheduler = this.#make()
    this.scheduler.begin()
    await settle()
  }

  verbs(): string[] {
    return this.begun.map(({ verb, subject }) => `${verb} ${subject.vm}`)
  }

  times(): string[] {
    return this.begun.map(({ startedAt }) => new Date(startedAt).toISOString().slice(5, 16))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.scheduler[Symbol.asyncDispose]()
    this.database[Symbol.dispose]()
    rmSync(this.directory, { recursive: true })
  }

  #make(): BackupScheduler {
    return new BackupScheduler({
      vms: async () => {
        this.looks++
        return this.vms
      },
      readiness: { isReady: () => this.ready },
      records: this.records,
      operations: { begin: async (request) => this.#begin(request), localOperations: () => this.resumed },
      runsAtOnceMax: 2,
      isPaused: () => this.paused,
      onReports: () => this.told++,
      clock: this.clock,
      log: silentLogger
    })
  }

  #begin(request: LocalRequest): LocalOperation {
    if (this.refuse !== undefined) throw this.refuse
    const operation = this.open(request)
    const outcome = this.outcome?.(request)
    if (outcome !== undefined) this.begun.at(-1)?.end(outcome)
    return operation
  }

  /** An operation that runs; its end is recorded as the dispatcher does. */
  open(request: LocalRequest): LocalOperation {
    const id = randomUUID()
    const startedAt = this.clock.now()
    const { promise, resolve } = Promise.withResolvers<CommandResult>()
    const { vm, uuid } = request.subject
    const value =
      request.verb === 'vm.backup'
        ? { record: recordOf({ vm, uuid, startedAt }) }
        : { kept: [], removed: [uuidOf('old')], freedBytes: 1, dryRun: false }
    const end = (changes: Partial<CommandResult>) => {
      const frame = { command: id, startedAt, finishedAt: this.clock.now() }
      const result: CommandResult = {
        ...frame,
        outcome: 'done',
        ...(!changes.error && { value }),
        ...changes
      }
      const { verb, subject } = request
      const claims = {
        id,
        verb,
        subject,
        audience: 'self',
        issuedAt: 0,
        expiresAt: 1,
        arguments: request.arguments
      }
      const report = reportOf({ id, claims, origin: 'schedule' }, result)
      if (report !== undefined) this.records.keep(report, { held: true })
      resolve(result)
    }
    this.begun.push({ ...request, id, startedAt, end })
    return { id, verb: request.verb, subject: request.subject, arguments: request.arguments, ended: promise }
  }
}

function uuidOf(name: string): string {
  return `00000000-0000-4000-8000-${Buffer.from(name.padEnd(6, '.')).toString('hex')}`
}

function failed(code: 'E_UNAVAILABLE' | 'E_CANCELLED' = 'E_UNAVAILABLE'): Partial<CommandResult> {
  return { outcome: 'failed', error: { code, message: 'the repository is away' } }
}

describe('scheduled backups', () => {
  it('do not begin while the host is drained, and those that are due begin when it takes work again', async () => {
    await using rig = new Rig()
    rig.paused = true
    await rig.start(['web-1', hourly])
    await rig.clock.advance(3 * hourMs)
    assert.deepEqual(rig.begun, [])
    rig.paused = false
    rig.scheduler.refresh()
    await settle()
    assert.deepEqual(rig.times(), ['01-01T03:00'])
  })

  it('are begun at their times, as the schedule says, without anybody connected', async () => {
    await using rig = new Rig()
    const limits = { bytesPerSecond: 1_000_000 }
    await rig.start(['web-1', { ...hourly, quiesce: 'freeze', limits }], ['web-2', nightly])
    await rig.clock.advance(3 * hourMs + minuteMs)
    assert.deepEqual(rig.times(), ['01-01T00:00', '01-01T01:00', '01-01T02:00', '01-01T03:00', '01-01T03:00'])
    assert.deepEqual(rig.begun[0]?.arguments, { vm: 'web-1', target: 'vault', quiesce: 'freeze', limits })
    assert.deepEqual(rig.begun[0]?.subject, { vm: 'web-1', uuid: uuidOf('web-1'), generation: 1 })
    assert.deepEqual(rig.verbs().slice(3).sort(), ['vm.backup web-1', 'vm.backup web-2'])
  })

  it('are told with the time of the next, and only once they are complete', async () => {
    await using rig = new Rig()
    await rig.start(['web-1', hourly])
    const [report] = rig.records.unacknowledged()
    assert.equal(report?.origin, 'schedule')
    assert.equal(report?.nextAt, Date.parse('2030-01-01T01:00:00Z'))
    assert.equal(rig.told, 1)
  })

  it('are never two at once of one VM, and never more than allowed on the host', async () => {
    await using rig = new Rig()
    rig.outcome = undefined
    await rig.start(['web-1', hourly], ['web-2', hourly], ['web-3', hourly])
    await rig.clock.advance(3 * hourMs)
    assert.deepEqual(rig.verbs(), ['vm.backup web-1', 'vm.backup web-2'])
    rig.begun[0]?.end({})
    await settle()
    assert.deepEqual(rig.verbs(), ['vm.backup web-1', 'vm.backup web-2', 'vm.backup web-3'])
    rig.begun[2]?.end({})
    await rig.clock.advance(10 * minuteMs)
    assert.equal(rig.verbs().filter((verb) => verb.endsWith('web-2')).length, 1)
    assert.equal(rig.verbs().filter((verb) => verb.endsWith('web-1')).length, 2)
  })

  it('are followed by what retention removes, and say so', async () => {
    await using rig = new Rig()
    await rig.start(['web-1', { ...hourly, keep: { last: 3 } }])
    assert.deepEqual(rig.verbs(), ['vm.backup web-1', 'backup.prune web-1'])
    assert.deepEqual(rig.begun[1]?.arguments, { target: 'vault', source: uuidOf('web-1'), keep: { last: 3 } })
    assert.deepEqual(rig.records.unacknowledged()[0]?.removed, [uuidOf('old')])
  })

  it('that fail remove nothing, and are tried again until one is good', async () => {
    await using rig = new Rig()
    rig.outcome = () => (rig.begun.length < 4 ? failed() : {})
    await rig.start(['web-1', { ...nightly, keep: { last: 3 } }])
    await rig.clock.advance(4 * hourMs)
    assert.deepEqual(rig.verbs(), [...Array(4).fill('vm.backup web-1'), 'backup.prune web-1'])
    const outcomes = rig.records.unacknowledged().map(({ error }) => error?.code)
    assert.deepEqual(outcomes, [...Array(3).fill('E_UNAVAILABLE'), undefined])
    await rig.clock.advance(20 * hourMs)
    assert.equal(rig.verbs().length, 5)
  })

  it('that are good and cannot be pruned are good all the same', async () => {
    await using rig = new Rig()
    rig.outcome = ({ verb }) => (verb === 'backup.prune' ? failed() : {})
    await rig.start(['web-1', { ...hourly, keep: { last: 3 } }])
    const [report] = rig.records.unacknowledged()
    assert.ok(report?.record)
    assert.equal(report.removed, undefined)
    assert.equal(rig.scheduler.health()[0]?.failures, 0)
  })

  it('that the host is too busy for wait in memory; ones that it refuses are told as failed', async () => {
    await using rig = new Rig()
    rig.refuse = new HostletError('E_BUSY', 'too much to do')
    await rig.start(['web-1', nightly])
    await rig.clock.advance(3 * hourMs + 10 * minuteMs)
    assert.deepEqual(rig.records.unacknowledged(), [])
    rig.refuse = undefined
    await rig.clock.advance(20 * minuteMs)
    assert.deepEqual(rig.verbs(), ['vm.backup web-1'])
    rig.refuse = new HostletError('E_NOT_FOUND', 'no such repository')
    await rig.clock.advance(24 * hourMs)
    assert.equal(rig.records.unacknowledged().at(-1)?.error?.code, 'E_NOT_FOUND')
    assert.ok((rig.scheduler.health()[0]?.failures ?? 0) >= 1)
  })
})

describe('the clockwork', () => {
  it('makes up once what was missed while the agent was down', async () => {
    await using rig = new Rig()
    await rig.start(['web-1', nightly])
    await rig.clock.advance(4 * hourMs)
    await rig.restart(3 * 24 * hourMs)
    await rig.clock.advance(hourMs)
    assert.equal(rig.verbs().length, 2)
    await rig.clock.advance(24 * hourMs)
    assert.deepEqual(rig.times().slice(-1), ['01-05T03:00'])
    assert.equal(rig.verbs().length, 3)
  })

  it('goes on as it was after a restart in between', async () => {
    await using rig = new Rig()
    await rig.start(['web-1', hourly])
    await rig.clock.advance(30 * minuteMs)
    await rig.restart(minuteMs)
    await rig.clock.advance(30 * minuteMs)
    assert.deepEqual(rig.times(), ['01-01T00:00', '01-01T01:00'])
  })

  it('sees a run to its end that an earlier run of the agent had begun', async () => {
    await using rig = new Rig()
    const schedule = { ...hourly, keep: { last: 1 } }
    const subject = { vm: 'web-1', uuid: uuidOf('web-1'), generation: 1 }
    rig.resumed = [rig.open({ verb: 'vm.backup', subject, arguments: { vm: 'web-1', target: 'vault' } })]
    await rig.start(['web-1', schedule])
    await rig.clock.advance(2 * hourMs)
    assert.deepEqual(rig.verbs(), ['vm.backup web-1'])
    rig.begun[0]?.end({})
    await settle()
    assert.deepEqual(rig.verbs().slice(0, 2), ['vm.backup web-1', 'backup.prune web-1'])
    assert.deepEqual(rig.records.unacknowledged()[0]?.removed, [uuidOf('old')])
  })

  it('tells of a run that an earlier run of the agent did not complete', async () => {
    await using rig = new Rig()
    rig.outcome = ({ verb }) => (verb === 'backup.prune' ? undefined : {})
    await rig.start(['web-1', { ...hourly, keep: { last: 1 } }])
    assert.deepEqual(rig.verbs(), ['vm.backup web-1', 'backup.prune web-1'])
    assert.deepEqual(rig.records.unacknowledged(), [])
    await rig.restart()
    assert.deepEqual(
      rig.records.unacknowledged().map(({ id }) => id),
      [rig.begun[0]?.id]
    )
  })

  it('begins where the disk is full, and tells what was held once there is room', async () => {
    await using rig = new Rig()
    const held = rig.open({
      verb: 'vm.backup',
      subject: { vm: 'web-1', uuid: uuidOf('web-1'), generation: 1 },
      arguments: {}
    })
    rig.begun.at(-1)?.end({})
    const write = rig.database.run
    rig.database.run = () => {
      throw new HostletError('E_CAPACITY', 'the disk is full')
    }
    await rig.start()
    await rig.clock.advance(minuteMs)
    assert.deepEqual(rig.records.unacknowledged(), [])
    rig.database.run = write
    await rig.clock.advance(minuteMs)
    assert.deepEqual(
      rig.records.unacknowledged().map(({ id }) => id),
      [held.id]
    )
    assert.equal(rig.told, 1)
  })

  it('waits for an interval by the monotonic clock, and for a time of day by the wall clock', async () => {
    await using rig = new Rig()
    await rig.start(['web-1', hourly], ['web-2', nightly])
    await rig.clock.advance(30 * minuteMs)
    rig.clock.jump(2 * hourMs + 25 * minuteMs)
    await rig.clock.advance(20 * minuteMs)
    assert.deepEqual(rig.verbs(), ['vm.backup web-1', 'vm.backup web-2'])
    assert.deepEqual(rig.times().slice(-1), ['01-01T03:00'])
    await rig.clock.advance(10 * minuteMs)
    assert.deepEqual(rig.verbs().slice(-1), ['vm.backup web-1'])
    rig.clock.jump(-hourMs)
    await rig.clock.advance(2 * hourMs)
    assert.equal(rig.verbs().filter((verb) => verb.endsWith('web-2')).length, 1)
  })

  it('does not wait for a year because the clock was a year ahead', async () => {
    await using rig = new Rig()
    rig.clock.jump(365 * 24 * hourMs)
    await rig.start(['web-1', hourly], ['web-2', nightly])
    await rig.clock.advance(4 * hourMs)
    const before = rig.verbs().length
    rig.clock.jump(-365 * 24 * hourMs)
    await rig.restart()
    await rig.clock.advance(25 * hourMs)
    const since = rig.verbs().slice(before)
    assert.ok(since.includes('vm.backup web-2'))
    assert.ok(since.filter((verb) => verb.endsWith('web-1')).length >= 24, since.join())
  })

  it('takes up schedules that are set, changed and taken away, when it is told of a change', async () => {
    await using rig = new Rig()
    await rig.start()
    await rig.clock.advance(hourMs)
    assert.equal(rig.looks, 1)
    assert.equal(rig.clock.pending, 0)
    rig.vms = [{ name: 'web-1', uuid: uuidOf('web-1'), generation: 1, schedule: nightly }]
    rig.scheduler.refresh()
    await settle()
    await rig.clock.advance(2 * hourMs + minuteMs)
    assert.deepEqual(rig.times(), ['01-01T03:00'])
    rig.vms = [{ name: 'web-1', uuid: uuidOf('web-1'), generation: 2, schedule: hourly }]
    rig.scheduler.refresh()
    await settle()
    assert.deepEqual(
      rig.begun.map(({ subject }) => subject.generation),
      [1, 2]
    )
    rig.vms = []
    rig.scheduler.refresh()
    await rig.clock.advance(24 * hourMs)
    assert.equal(rig.verbs().length, 2)
    assert.deepEqual(rig.scheduler.health(), [])
  })

  it('looks once the hypervisor is there', async () => {
    await using rig = new Rig()
    rig.ready = false
    await rig.start(['web-1', hourly])
    await rig.clock.advance(hourMs)
    assert.equal(rig.looks, 0)
    rig.ready = true
    rig.scheduler.refresh()
    await settle()
    assert.deepEqual(rig.verbs(), ['vm.backup web-1'])
  })
})

describe('the health of scheduled backups', () => {
  it('is overdue when there is no good one for too long, worse with time, and well with the next good one', async () => {
    await using rig = new Rig()
    await rig.start(['web-1', hourly])
    const overdue = () => rig.scheduler.health()[0]?.overdue
    assert.equal(overdue(), 'no')
    rig.outcome = () => failed()
    await rig.clock.advance(hourMs + 14 * minuteMs)
    assert.equal(overdue(), 'no')
    await rig.clock.advance(2 * minuteMs)
    assert.equal(overdue(), 'warning')
    await rig.clock.advance(2 * hourMs)
    assert.equal(overdue(), 'critical')
    assert.ok((rig.scheduler.health()[0]?.failures ?? 0) > 2)
    assert.equal(rig.scheduler.health()[0]?.error?.code, 'E_UNAVAILABLE')
    rig.outcome = () => ({})
    await rig.clock.advance(hourMs)
    assert.equal(overdue(), 'no')
    assert.equal(rig.scheduler.health()[0]?.failures, 0)
  })
})
