// Plans of what leaves a VM as it is: its backup, and its repair.

import { sizeText } from '../../lib/size-text.ts'
import type { VmBackupParams } from '../../protocol/backup.ts'
import type { DriftItem } from '../../protocol/drift.ts'
import { type Foreseen, planLinesMax } from '../../protocol/plan.ts'
import { rolesOf } from '../backups/runner.ts'
import type { Host } from '../host/host.ts'
import { isOff } from '../host/making.ts'
import type { Operation } from '../operations/verb.ts'
import { requireVm } from '../verbs/subject.ts'

/** The repository is not looked into: what the host knows of the last backup says what would be read. */
export async function planBackupOf(
  { vm, target, disks, mode, quiesce }: VmBackupParams,
  host: Host,
  operation: Operation
): Promise<Foreseen> {
  const record = await requireVm(vm, host, operation)
  const { placement, specification } = record
  const roles = rolesOf(record, { disks })
  const names = roles.map((role) => (role === 'root' ? placement.rootVolume : placement.dataVolume))
  const volumes = (await host.hypervisor.listVolumes(operation)).filter(({ name }) => names.includes(name))
  const heldBytes = volumes.reduce((sum, { allocationBytes }) => sum + allocationBytes, 0)
  const last = host.backups.good.lastGood(specification.uuid, target)
  const checkpoints = await host.hypervisor.listCheckpoints(vm, operation)
  const isKnown = last?.checkpoint !== null && checkpoints.includes(last?.checkpoint?.name ?? '')
  const how =
    mode === 'full' || last === undefined
      ? `All of the disks is read: at most ${sizeText(heldBytes)}, less where blocks are alike or compress.`
      : isKnown
        ? `Only what changed since backup ${last.snapshot} of ${new Date(last.at).toISOString()} is read.`
        : `All of the disks is read and compared with backup ${last.snapshot}: its checkpoint is not there.`
  return {
    changes: true,
    remarks: [
      `The ${roles.join(' and ')} disk would be backed up to ${target}. The VM is not changed.`,
      how,
      ...(quiesce === 'freeze' ? ['The file systems of its guest are brought to rest for a moment.'] : []),
      ...(isOff(record)
        ? ['It is off: its machine stands paused meanwhile, and is off again afterwards.']
        : [])
    ]
  }
}

export function planRepairs(vm: string, wanted: readonly DriftItem[], found: readonly DriftItem[]): Foreseen {
  const line = ({ id, title }: DriftItem) => `${id}: ${title}`
  const others = found.filter((item) => !wanted.includes(item))
  return {
    changes: wanted.length > 0,
    remarks: [
      ...(found.length === 0 ? [`VM ${vm} is as its records say.`] : []),
      ...wanted.map((item) => `Would be put right: ${line(item)}`),
      ...others.map((item) => `Would stay as it is: ${line(item)}`)
    ].slice(0, planLinesMax)
  }
}
