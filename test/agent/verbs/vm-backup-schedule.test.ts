// vm.backup-schedule: what is set stands in the VM's own metadata, and what no host could follow is refused.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import { vmBackupSchedule } from '../../../src/agent/verbs/vm-backup-schedule.ts'
import { HostletError } from '../../../src/errors.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import type { BackupSchedule } from '../../../src/protocol/backup.ts'
import { makeBackupBench, source, target, vm } from '../backups/bench.ts'

const nightly: BackupSchedule = { target, cron: '15 3 * * *', timeZone: 'Europe/Berlin', keep: { daily: 7 } }
const hourly: BackupSchedule = { target, everyMs: 3_600_000 }
const signal = AbortSignal.timeout(60_000)

async function setUp() {
  const made = await makeBackupBench()
  const { host } = made
  const operationOf = (notes = {}) => ({
    id: randomUUID(),
    verb: vmBackupSchedule.name,
    subject: { vm, uuid: source, generation: 50 },
    signal,
    log: silentLogger,
    notes,
    progress: () => undefined
  })
  const found = async () => await host.hypervisor.findVm(vm, { signal })
  const [step] = vmBackupSchedule.steps({ vm, schedule: null }, host)
  const set = async (schedule: BackupSchedule | null) => {
    await vmBackupSchedule.check?.({ vm, schedule }, host, operationOf())
    const [write] = vmBackupSchedule.steps({ vm, schedule }, host)
    const notes = (await write?.apply(operationOf())) ?? {}
    return { notes, result: await vmBackupSchedule.outcome({ vm, schedule }, host, operationOf(notes)) }
  }
  return { made, host, step, operationOf, found, set }
}

describe('vm.backup-schedule', () => {
  it('writes the schedule and the generation to the VM, and takes it away again', async () => {
    const { made, found, set, host } = await setUp()
    await using _made = made
    assert.deepEqual((await set(nightly)).result, { vm, schedule: nightly })
    assert.deepEqual((await found())?.backupSchedule, nightly)
    assert.equal((await found())?.generation, 50)
    await host.hypervisor.annotate(vm, { generation: 3 }, { signal })
    assert.deepEqual((await set(null)).result, { vm, schedule: null })
    assert.equal((await found())?.backupSchedule, undefined)
  })

  it('puts back what there was when it is undone, and nothing where it never ran', async () => {
    const { made, found, set, host, step, operationOf } = await setUp()
    await using _made = made
    await set(hourly)
    await host.hypervisor.annotate(vm, { generation: 3 }, { signal })
    const { notes } = await set(nightly)
    await step?.undo?.(operationOf())
    assert.deepEqual((await found())?.backupSchedule, nightly)
    await step?.undo?.(operationOf(notes))
    assert.deepEqual((await found())?.backupSchedule, hourly)
  })

  const refused: [string, BackupSchedule, string][] = [
    ['with an interval and a cron expression', { ...nightly, everyMs: 60_000 }, 'E_BAD_REQUEST'],
    ['without either', { target }, 'E_BAD_REQUEST'],
    ['whose expression nobody can read', { target, cron: '99 3 * * *' }, 'E_BAD_REQUEST'],
    ['in a time zone that there is not', { ...nightly, timeZone: 'Mars/Olympus' }, 'E_BAD_REQUEST'],
    [
      "to a repository that the host's policy does not name",
      { ...hourly, target: 'elsewhere' },
      'E_NOT_FOUND'
    ]
  ]
  for (const [what, schedule, code] of refused)
    it(`refuses a schedule ${what}, and leaves the VM as it is`, async () => {
      const { made, found, set } = await setUp()
      await using _made = made
      await assert.rejects(set(schedule), (error) => error instanceof HostletError && error.code === code)
      assert.equal((await found())?.backupSchedule, undefined)
    })
})
