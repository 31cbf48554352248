// Conditions: when each holds, since when, and how often it is told.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { PlanHealth } from '../../../src/agent/backups/schedule-plan.ts'
import type { HealthFacts } from '../../../src/agent/health/conditions.ts'
import { conditionRules } from '../../../src/agent/health/conditions.ts'
import { healthyInventory } from '../../../src/agent/health/inventory-rules.ts'
import { HealthTracker } from '../../../src/agent/health/tracker.ts'
import { healthyKeys } from '../../../src/agent/keys/key-watch.ts'
import type { LogFields, Logger } from '../../../src/lib/log.ts'

const now = Date.parse('2030-01-02T03:04:05Z')
const dayMs = 86_400_000
const well: HealthFacts = {
  now,
  hypervisor: { state: 'connected' },
  clockSkewMs: 200,
  certificate: { from: now - dayMs, to: now + 9 * dayMs },
  identityFault: undefined,
  pool: { capacityBytes: 1_000, availableBytes: 500 },
  journalFault: undefined,
  leftovers: 0,
  seedsInMemory: true,
  backups: [],
  keys: healthyKeys,
  inventory: healthyInventory
}

function planOf(changes: Partial<PlanHealth> = {}): PlanHealth {
  return { vm: 'web-1', target: 'vault', overdue: 'no', failures: 0, error: undefined, ...changes }
}

function severities(changes: Partial<HealthFacts>): string[] {
  const facts = { ...well, ...changes }
  return conditionRules.flatMap((rule) => {
    const found = rule.holds(facts)
    return found === undefined ? [] : [`${rule.id} ${found.severity}`]
  })
}

describe('the conditions', () => {
  it('raise one while the network rules are not in force, with what keeps them from it', () => {
    const firewall = { message: 'nft says: Operation not permitted', since: now - 1_000 }
    assert.deepEqual(severities({ firewall }), ['firewall critical'])
    const rule = conditionRules.find(({ id }) => id === 'firewall')
    assert.match(rule?.holds({ ...well, firewall })?.message ?? '', /not in force.*Operation not permitted/)
  })

  it('raise nothing on a host that is well, nor where nothing is known yet', () => {
    assert.deepEqual(severities({}), [])
    const restarts = { state: 'away', since: now - 5_000, reason: 'refused' } as const
    assert.deepEqual(severities({ hypervisor: restarts }), [])
    assert.deepEqual(severities({ clockSkewMs: undefined, certificate: undefined, pool: undefined }), [])
    assert.deepEqual(severities({ pool: { capacityBytes: 0, availableBytes: 0 } }), [])
  })

  const cases: [string, Partial<HealthFacts>, string][] = [
    [
      'libvirt away for long',
      { hypervisor: { state: 'away', since: now - 60_000, reason: 'x' } },
      'hypervisor-away critical'
    ],
    [
      'a trust statement that is not in force',
      { trustFault: 'the trust statement is not adopted: its signature does not fit.' },
      'trust critical'
    ],
    [
      'a policy that cannot be relied on',
      { policyFault: 'policy.yaml: everybody can write it' },
      'policy critical'
    ],
    ['a clock that is behind', { clockSkewMs: 45_000 }, 'clock-skew warning'],
    ['a clock that is ahead', { clockSkewMs: -45_000 }, 'clock-skew warning'],
    [
      'a clock that is so far behind that commands are misjudged',
      { clockSkewMs: 60_000 },
      'clock-skew critical'
    ],
    ['a clock that is so far ahead', { clockSkewMs: -60_000 }, 'clock-skew critical'],
    [
      'a certificate whose time has not come, by a clock that is behind',
      { certificate: { from: now + 1, to: now + dayMs } },
      'certificate critical'
    ],
    [
      'a certificate that was not renewed',
      { certificate: { from: now - 95 * dayMs, to: now + 5 * dayMs } },
      'certificate warning'
    ],
    [
      'a certificate that has expired',
      { certificate: { from: now - 95 * dayMs, to: now - 1 } },
      'certificate critical'
    ],
    ['an identity that does not hold', { identityFault: 'wrong key' }, 'certificate critical'],
    [
      'a pool that is nearly full',
      { pool: { capacityBytes: 1_000, availableBytes: 90 } },
      'pool-full warning'
    ],
    ['a pool that is full', { pool: { capacityBytes: 1_000, availableBytes: 0 } }, 'pool-full critical'],
    [
      'a pool whose storage does not answer',
      { silentPools: [{ name: 'disks', path: '/srv/disks', since: now - 60_000 }] },
      'pool-silent critical'
    ],
    ['a journal that cannot be read', { journalFault: 'disk failed' }, 'journal critical'],
    ['seeds that lie on a disk', { seedsInMemory: false }, 'seeds-on-disk warning'],
    ['an undo that failed', { leftovers: 2 }, 'leftovers warning'],
    ['a late backup', { backups: [planOf({ overdue: 'warning' })] }, 'backup-overdue warning'],
    [
      'backups of which one is very late',
      { backups: [planOf({ overdue: 'warning' }), planOf({ overdue: 'critical' })] },
      'backup-overdue critical'
    ],
    ['backups that fail', { backups: [planOf({ failures: 2 })] }, 'backup-failed warning'],
    [
      'a schedule that cannot be followed',
      { backups: [planOf({ failures: Number.POSITIVE_INFINITY })] },
      'backup-failed critical'
    ]
  ]
  it('say what to do, or pass on what the fault itself says of that', () => {
    const passedOn = ['journal', 'audit-trail', 'certificate']
    for (const [what, change] of [...cases, ['rules', { firewall: { message: 'x.', since: 1 } }] as const])
      for (const { id, holds } of conditionRules) {
        const message = holds({ ...well, ...change })?.message
        if (message !== undefined && !passedOn.includes(id))
          assert.match(message, /"[a-z]+( [^"]+)?"|\b(remove|mend|Put|Name) /, `${what}: ${message}`)
      }
  })

  it('are silent about a clock within its limit, and say the limit and which way it is off beyond', () => {
    assert.deepEqual(severities({ clockSkewMs: 30_000 }), [])
    assert.deepEqual(severities({ clockSkewMs: -30_000 }), [])
    const messageAt = (clockSkewMs: number) =>
      conditionRules.find(({ id }) => id === 'clock-skew')?.holds({ ...well, clockSkewMs })?.message ?? ''
    assert.match(
      messageAt(31_000),
      /31 s behind the scheduler's\. From 60 s on commands are misjudged: new ones are refused/
    )
    assert.match(
      messageAt(-95_000),
      /95 s ahead of the scheduler's\. From 60 s .*expire too early\. Look at "timedatectl"/
    )
  })

  for (const [what, facts, expected] of cases)
    it(`tell of ${what}`, () => {
      assert.deepEqual(severities(facts), [expected])
    })
})

describe('the conditions of backups', () => {
  const messageOf = (id: string, backups: PlanHealth[]) =>
    conditionRules.find((rule) => rule.id === id)?.holds({ ...well, backups })?.message ?? ''

  it('do not hold for a failure that was the only one, nor for backups that are in time', () => {
    assert.deepEqual(severities({ backups: [planOf(), planOf({ failures: 1 })] }), [])
  })

  it('name some VMs, the worst first, and what to do', () => {
    const late = Array.from({ length: 20 }, (_, index) => planOf({ vm: `web-${index}`, overdue: 'warning' }))
    const text = messageOf('backup-overdue', [...late, planOf({ vm: 'db-1', overdue: 'critical' })])
    assert.match(text, /^the last good backup of db-1, web-0, web-1, web-2, web-3 and 16 others is older/)
    assert.match(text, /hostlet vm backup db-1/)
  })

  it('give the reason of the last failure', () => {
    const error = { code: 'E_UNAVAILABLE', message: 'the repository is away.' } as const
    assert.match(
      messageOf('backup-failed', [planOf({ failures: 3, error })]),
      /web-1: the repository is away\./
    )
  })
})

describe('the health tracker', () => {
  function setUp() {
    const lines: string[] = []
    const line = (level: string) => (fields: LogFields, message: string) =>
      void lines.push(`${level} ${message} ${fields.condition}`)
    const log: Logger = {
      debug: line('debug'),
      info: line('info'),
      warn: line('warn'),
      error: line('error'),
      child: () => log
    }
    return { tracker: new HealthTracker({ log }), lines }
  }
  const pool = (availableBytes: number) => ({ pool: { capacityBytes: 1_000, availableBytes } })

  it('keeps the time at which a condition began, and tells of it once', () => {
    const { tracker, lines } = setUp()
    tracker.update({ ...well, ...pool(90) })
    const [condition] = tracker.update({ ...well, ...pool(80), now: now + 5_000 })
    assert.equal(condition?.since, now)
    assert.match(condition?.message ?? '', /8 % left/)
    assert.deepEqual(lines, ['warn condition raised pool-full'])
  })

  it('tells again when it gets worse, and when it is over', () => {
    const { tracker, lines } = setUp()
    tracker.update({ ...well, ...pool(90) })
    tracker.update({ ...well, ...pool(10) })
    assert.deepEqual(tracker.update(well), [])
    tracker.update(well)
    assert.deepEqual(lines, [
      'warn condition raised pool-full',
      'error condition raised pool-full',
      'info condition ended pool-full'
    ])
  })
})
