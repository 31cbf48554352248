// Commands on backups through a real scheduler: what is asked of the host, what people read, and how they end.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { BackupList, BackupRunList, OperationReply } from '../../src/protocol/api.ts'
import type { BackupRecord } from '../../src/protocol/backup.ts'
import type { CommandClaims } from '../../src/protocol/command.ts'
import { compile } from '../../src/protocol/validate.ts'
import { backupRecord, snapshot1, vmSummary } from '../scheduler/support/samples.ts'
import { TestFleet } from './fleet.ts'
import type { Ended } from './program.ts'

const digest = 'a'.repeat(64)
const image = ['--image', 'https://images.example.org/a.qcow2', '--sha256', digest]

describe('backup commands through the scheduler', { timeout: 300_000 }, () => {
  let fleet: TestFleet
  let uuid = ''
  before(async () => {
    fleet = await TestFleet.start()
    const created = fleet.hostlet('vm', 'create', 'web-1', ...image)
    const { claims } = await fleet.agent.nextCommand()
    uuid = claims.subject?.uuid ?? ''
    finish(claims, { vm: vmSummary({ uuid }) })
    assert.equal((await created).status, 0)
  })
  after(() => fleet[Symbol.asyncDispose]())

  function finish(claims: CommandClaims, value: Record<string, unknown> = {}): void {
    fleet.agent.acknowledge(claims.id)
    fleet.agent.finish(claims.id, value)
  }

  /** Runs a command whose operation the host ends with the value. */
  async function run(
    words: readonly string[],
    value: (claims: CommandClaims) => Record<string, unknown>
  ): Promise<Ended & { claims: CommandClaims }> {
    const ended = fleet.hostlet(...words)
    const { claims } = await fleet.agent.nextCommand()
    finish(claims, value(claims))
    return { ...(await ended), claims }
  }

  const record = (change: Partial<BackupRecord> = {}) => backupRecord(fleet.agent.id, { uuid, ...change })

  it('back a VM up, say what it cost, and why it was no incremental one', async () => {
    const words = ['vm', 'backup', 'web-1', '--target', 'main', '--disks', 'root,data', '--quiesce', 'freeze']
    const { status, stdout, claims } = await run([...words, '--full', '--limit', '50M'], () => ({
      record: record({ kind: 'fallback', reason: 'the checkpoint was lost' }),
      freezeFault: 'the guest has no agent'
    }))
    assert.equal(status, 0)
    assert.deepEqual(claims.arguments, {
      ...{ vm: 'web-1', target: 'main', disks: ['root', 'data'], quiesce: 'freeze', mode: 'full' },
      limits: { bytesPerSecond: 50 * 1024 ** 2 }
    })
    assert.equal(
      stdout,
      `VM web-1: fallback backup ${snapshot1} in main (the checkpoint was lost): 256 MiB read, 64 MiB stored, 1.5s. It could not be frozen: the guest has no agent\n`
    )
  })

  it('list and show what there is, in both forms', async () => {
    const table = await fleet.hostlet('backup', 'ls', '--vm', 'web-1')
    const [title, row] = table.stdout.split('\n')
    assert.match(
      title ?? '',
      /^TIME +BACKUP +VM +TARGET +HOST +KIND +CONSISTENCY +SIZE +STORED +TOOK +VERIFIED$/
    )
    assert.match(
      row ?? '',
      new RegExp(`${snapshot1} +web-1 +main +\\S+ +fallback +crash +1 GiB +64 MiB +1\\.5s +never$`)
    )
    const json = await fleet.hostlet('backup', 'ls', '-o', 'json')
    assert.equal(compile(BackupList, 'list')(JSON.parse(json.stdout)).backups.length, 1)
    const none = await fleet.hostlet('backup', 'ls', '--vm', 'nobody')
    assert.deepEqual([none.status, none.stdout], [0, ''])
    const shown = await fleet.hostlet('backup', 'show', snapshot1)
    assert.match(shown.stdout, /^kind: +fallback: the checkpoint was lost$/m)
    assert.match(shown.stdout, /^consistency: +as after a power cut$/m)
  })

  it('have a host look into a repository, and name what it cannot use', async () => {
    const locked = 'cccccccc-3333-4333-8333-333333333333'
    const { stdout, stderr, claims } = await run(
      ['backup', 'find', '--host', 'kvm-1', '--target', 'main'],
      () => ({
        snapshots: [record()],
        damaged: [{ uuid, snapshot: snapshot1, fault: 'does not authenticate' }],
        locked: [locked]
      })
    )
    assert.deepEqual([claims.verb, claims.arguments], ['backup.list', { target: 'main' }])
    assert.match(stdout, /^Host kvm-1 finds 1 backup of 1 VM in main\./)
    assert.match(stderr, new RegExp(`cannot be used: backup ${snapshot1} .*does not authenticate`))
    assert.match(stderr, new RegExp(`no key of host kvm-1 opens the backups of VM ${locked}`))
  })

  it('take the newest backup of a VM as latest', async () => {
    const shown = await fleet.hostlet('backup', 'show', 'latest', '--vm', 'web-1')
    assert.match(shown.stdout, new RegExp(`^backup: +${snapshot1}$`, 'm'))
    const none = await fleet.hostlet('backup', 'show', 'latest', '--vm', 'nobody')
    assert.deepEqual([none.status, none.stdout], [4, ''])
  })

  it('verify, and exit with 1 when the backup is bad although the look was done', async () => {
    const words = ['backup', 'verify', snapshot1]
    const found = (outcome: 'good' | 'bad', fault?: string) => () => ({
      ...{
        snapshot: snapshot1,
        source: uuid,
        blocks: 9,
        readBytes: 9,
        faults: fault === undefined ? [] : [fault]
      },
      verification: {
        ...{ at: Date.now(), outcome, booted: outcome === 'good', freshness: 'unverifiable' },
        ...(fault === undefined ? {} : { fault })
      }
    })
    const good = await run([...words, '--boot'], found('good'))
    assert.deepEqual([good.status, good.claims.arguments.boot], [0, true])
    assert.match(good.stdout, /is good: 9 blocks read\. It boots\. Beware: nobody knows whether newer/)
    const bad = await run([...words, '-o', 'json'], found('bad', 'pack 1 is missing'))
    assert.equal(bad.status, 1)
    assert.equal(compile(OperationReply, 'operation')(JSON.parse(bad.stdout)).operation.state, 'done')
    assert.match(
      bad.stderr,
      /"E_CORRUPT","message":"backup \S+ is bad: pack 1 is missing\. Take a whole new one/
    )
    assert.match((await fleet.hostlet('backup', 'ls')).stdout, / bad \d+\S* ago/)
  })

  it('restore under a new name, and into the VM that there is', async () => {
    const result = (claims: CommandClaims) => ({
      vm: vmSummary({ name: String(claims.arguments.vm), uuid: String(claims.arguments.uuid) }),
      ...{ address: '10.83.0.11', snapshot: snapshot1, at: 10_000, freshness: 'known' },
      ...{ restoredBytes: 1024 ** 2, notRestored: ['data'] }
    })
    const made = await run(['vm', 'restore', 'web-1', '--as', 'web-2', '--profile', 'premium'], result)
    assert.equal(made.status, 0, made.stderr)
    assert.equal(made.claims.arguments.profile, 'premium')
    assert.match(
      made.stdout,
      /^VM web-2 is as of 1970-01-01 00:00:10 on host \S+, running at 10\.83\.0\.11 \(1 MiB written\)\. Not in the backup: the data disk\.\n$/
    )
    const words = ['vm', 'restore', 'web-1', '--snapshot', snapshot1, '--replace', '--no-start']
    const replaced = await run(words, result)
    assert.deepEqual(replaced.claims.arguments, {
      ...{ target: 'main', source: uuid, snapshot: snapshot1, vm: 'web-1', uuid },
      ...{ replace: true, start: false, expected: snapshot1 }
    })
    const taken = await fleet.hostlet('vm', 'restore', 'web-1')
    assert.equal(taken.status, 5)
    assert.match(taken.stderr, /exists already/)
  })

  it('set, show and end a schedule', async () => {
    const words = ['vm', 'schedule', 'web-1']
    const set = [
      '--target',
      'main',
      '--every',
      '6h',
      '--jitter',
      '10m',
      '--keep-last',
      '2',
      '--keep-daily',
      '7'
    ]
    const { status, stdout, claims } = await run([...words, ...set], () => ({}))
    assert.equal(status, 0)
    assert.equal(stdout, 'VM web-1 is backed up to main every 6h.\n')
    assert.deepEqual(claims.arguments.schedule, {
      ...{ target: 'main', everyMs: 21_600_000, jitterMs: 600_000 },
      keep: { last: 2, daily: 7 }
    })
    const shown = await fleet.hostlet(...words)
    assert.match(shown.stdout, /^schedule: +every 6h$/m)
    assert.match(shown.stdout, /^keeps: +2 last, 7 daily$/m)
    assert.match(shown.stdout, new RegExp(`^ended: +good after \\S+: ${snapshot1}$`, 'm'))
    const off = await run([...words, '--off'], () => ({}))
    assert.equal(off.claims.arguments.schedule, null)
    assert.match((await fleet.hostlet(...words)).stdout, /^schedule: +none set here$/m)
  })

  it('tell how backups went, the failed ones by themselves', async () => {
    const words = ['vm', 'backup', 'web-1', '--target', 'main']
    const ended = fleet.hostlet(...words)
    const { claims } = await fleet.agent.nextCommand()
    fleet.agent.acknowledge(claims.id)
    fleet.agent.fail(claims.id, { code: 'E_TIMEOUT', message: 'the repository is away' })
    const { status, stderr } = await ended
    assert.equal(status, 8)
    assert.match(stderr, /E_TIMEOUT: vm\.backup web-1 on host kvm-1: the repository is away/)
    const failed = await fleet.hostlet('backup', 'runs', '--vm', 'web-1', '--failed')
    const [title, row, ...others] = failed.stdout.trimEnd().split('\n')
    assert.match(title ?? '', /^TIME +VM +TARGET +HOST +BY +TOOK +BACKUP OR ERROR$/)
    assert.match(row ?? '', /web-1 +main +kvm-1 +command .*E_TIMEOUT: the repository is away$/)
    assert.deepEqual(others, [])
    const all = await fleet.hostlet('backup', 'runs', '-o', 'json')
    assert.ok(compile(BackupRunList, 'list')(JSON.parse(all.stdout)).runs.length >= 1)
  })

  it('prune and export', async () => {
    const pruned = await run(['backup', 'prune', '--vm', 'web-1', '--keep-daily', '7', '--dry-run'], () => ({
      ...{ kept: [], removed: [snapshot1], freedBytes: 2048, dryRun: true }
    }))
    assert.equal(pruned.stdout, '1 of 1 backups of VM web-1 would go, which would free 2 KiB.\n')
    const to = ['--disk', 'data', '--format', 'raw', '--to', '/srv/export/x.raw']
    const exported = await run(['backup', 'export', snapshot1, ...to], () => ({}))
    assert.deepEqual(exported.claims.arguments, {
      ...{ target: 'main', source: uuid, snapshot: snapshot1 },
      ...{ disk: 'data', format: 'raw', path: '/srv/export/x.raw' }
    })
    assert.match(exported.stdout, /^The data disk is in \/srv\/export\/x\.raw on host/)
  })

  it('cancel an operation, and show bytes, rate and remaining time of one', async () => {
    const begun = fleet.hostlet('vm', 'backup', 'web-1', '--target', 'main', '--no-wait')
    const { claims } = await fleet.agent.nextCommand()
    await begun
    fleet.agent.acknowledge(claims.id)
    const transfer = {
      doneBytes: 1024 ** 3,
      totalBytes: 4 * 1024 ** 3,
      bytesPerSecond: 1024 ** 2,
      remainingMs: 65_000
    }
    fleet.agent.send({
      ...{ type: 'progress', command: claims.id, at: 1, step: 'copy disks', stepIndex: 0, steps: 2 },
      transfer
    })
    await fleet.agent.sync()
    const shown = await fleet.hostlet('op', 'show', claims.id)
    assert.match(shown.stdout, /1\/2 copy disks, 1 GiB of 4 GiB, 1 MiB\/s, 1m5s left/)
    const cancelled = await run(['op', 'cancel', claims.id], ({ arguments: { operation } }) => ({
      ...{ operation, state: 'cancelling' }
    }))
    assert.match(
      cancelled.stdout,
      new RegExp(`^Operation ${claims.id} is being undone; follow it with "hostlet op wait`)
    )
    fleet.agent.finish(claims.id)
    await fleet.agent.sync()
    const late = await fleet.hostlet('op', 'cancel', claims.id)
    assert.equal(late.status, 5)
    assert.match(late.stderr, /has ended/)
  })

  it('refuse what does not go together before anybody is asked', async () => {
    const schedule = ['vm', 'schedule', 'web-1']
    const cases: readonly [readonly string[], RegExp][] = [
      [['vm', 'backup', 'web-1'], /required option '--target/],
      [['vm', 'backup', 'web-1', '--target', 'main', '--limit', 'fast'], /"fast" is not a size/],
      [
        ['vm', 'backup', 'web-1', '--target', 'main', '--quiesce', 'hard'],
        /Allowed choices are none, freeze/
      ],
      [
        ['vm', 'backup', 'web-1', '--target', 'main', '--disks', 'cdrom'],
        /disks\.0: must be one of root, data/
      ],
      [[...schedule, '--every', '6h'], /needs --target/],
      [[...schedule, '--target', 'main'], /either --every or --cron/],
      [[...schedule, '--target', 'main', '--every', '6h', '--cron', '0 1 * * *'], /either --every or --cron/],
      [[...schedule, '--off', '--every', '6h'], /--off stands alone/],
      [[...schedule, '--target', 'main', '--every', '1h', '--keep-daily', 'some'], /--keep-daily must be/],
      [['backup', 'export', snapshot1], /required option '--to/],
      [['backup', 'prune', '--keep-last', '1'], /required option '--vm/],
      [['backup', 'show', 'latest'], /latest.* of which VM/],
      [['vm', 'restore', 'web-1', '--snapshot', 'newest', '--as', 'x1'], /snapshot/]
    ]
    const ended = await Promise.all(cases.map(([words]) => fleet.hostlet(...words)))
    for (const [index, { status, stderr }] of ended.entries()) {
      assert.equal(status, 2, stderr)
      assert.match(stderr, cases[index]?.[1] ?? /$^/)
    }
    assert.deepEqual(fleet.agent.unread('command'), [])
  })
})
