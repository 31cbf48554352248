// vm.restore: a VM made of a backup, here or on any other host, or the disks of one put back to what they held.

import { HostletError } from '../../errors.ts'
import { VmRestoreParams, VmRestoreResult } from '../../protocol/backup.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import { newVmSteps } from '../backups/restore-new.ts'
import { replaceSteps } from '../backups/restore-replace.ts'
import type { Host } from '../host/host.ts'
import { taken } from '../host/placement.ts'
import { defineVerb } from '../operations/verb.ts'
import { planRestoreReplace } from '../plans/changing.ts'
import { planRestoreNew } from '../plans/making.ts'
import type { VerbDocument } from './document.ts'
import { checkVm, requireVm, subjectOf } from './subject.ts'
import { transferMs } from './vm-backup.ts'

export const vmRestore = defineVerb<Host>()({
  name: 'vm.restore',
  summary:
    'Makes a VM of a backup and waits until it is ready, or puts the disks of a VM back. All or nothing.',
  lock: 'vm',
  backups: 'wait',
  lane: 'transfer',
  changes: true,
  cancellable: true,
  deadlineMs: transferMs,
  afterCrash: 'resume',
  params: VmRestoreParams,
  result: VmRestoreResult,

  async check({ target, vm, uuid, profile, replace }, host, operation) {
    const subject = subjectOf(operation, vm)
    if (subject.uuid !== uuid)
      throw new HostletError('E_BAD_REQUEST', `the command is about ${subject.uuid}, its VM is ${uuid}`)
    host.backups.repositories.require(target)
    if (replace === true) {
      if (profile !== undefined)
        throw new HostletError(
          'E_BAD_REQUEST',
          'a VM whose disks are replaced keeps its profile: leave it out'
        )
      await checkVm(vm, host, operation)
      return
    }
    if (profile !== undefined) host.placements.profile(profile)
    const existing = await host.hypervisor.findVm(vm, operation)
    if (existing !== undefined) throw taken(existing, { name: vm, uuid } as VmSpecification)
    await host.vms.refuseForeign({ name: vm, uuid }, operation)
  },

  steps: (params, host) => (params.replace === true ? replaceSteps(params, host) : newVmSteps(params, host)),

  plan: (params, host, operation) =>
    (params.replace === true ? planRestoreReplace : planRestoreNew)(params, host, operation),

  async outcome({ vm }, host, operation) {
    const record = await requireVm(vm, host, operation)
    const { snapshot, at, freshness, restoredBytes, notRestored } = operation.notes
    return {
      vm: host.vms.summary(record),
      address: record.placement.address,
      ...({ snapshot, at, freshness, restoredBytes, notRestored } as Omit<VmRestoreResult, 'vm' | 'address'>)
    }
  }
})

export const document: VerbDocument = {
  errors: {
    E_BAD_REQUEST:
      'an argument is wrong, the profile is not configured here, or the snapshot holds no root disk (put its disks into the VM with `replace`, or export them)',
    E_CONFLICT:
      "the name exists on this host, as another VM, this one, or a domain that is not hostlet's; the UUID is that of such a domain; with `replace`, the VM is another one",
    E_STALE: 'the VM has carried out a newer command',
    E_NOT_FOUND:
      "the host's policy names no such repository, there is no such snapshot, or, with `replace`, no such VM",
    E_AUTH:
      'the host has no policy of backups, the VM would be larger than its policy allows, the repository refuses the credentials, or no key of the host or its policy opens the backup',
    E_CAPACITY: 'no room for the disks, no memory, no free address, no free user',
    E_UNAVAILABLE: 'libvirt or the repository is away, or the VM was not ready in time: all was undone',
    E_CORRUPT:
      'a block of the backup is damaged, the newest manifest is, or the repository was put back to an older state: all was undone',
    E_TIMEOUT: 'it took longer than its deadline; it was undone',
    E_CANCELLED: 'it was cancelled; it was undone'
  },
  crash:
    'Runs on from the last step that was done; the disks are restored anew when that was under way. Where a step fails nothing is left, and with `replace` the VM has its old disks back.',
  remarks: [
    'The specification comes from the backup: size, processors, readiness. Name, UUID and profile are those of the command. Base images are not needed: restored disks stand alone.',
    'The MAC is that of the source where no VM of this host has it, since guests know their network card by it.',
    'What the backed-up VM was allowed in the network holds as far as the profile allows it, and ports of the host as far as no other VM and no program has them.',
    'The seed of the source is not part of a backup, and not needed: the disks are those of a guest that was set up before.',
    'With `replace` the restored disks are made beside those of the VM. It is switched off only then, and gets its old disks back when it is not ready with the restored ones. The old disks are removed once it is. Disks that the snapshot does not hold stay.',
    '`expected` is the newest snapshot that the scheduler knows: with `latest`, a repository that lacks it and everything newer is refused. A snapshot that is named is restored all the same; `freshness` says what is known.',
    'A backup of the VM that runs is waited for, with everything that is asked of the VM later: cancel it where that takes too long.',
    'Its backups go on in a place of their own, by its UUID.'
  ],
  example: {
    target: 'offsite',
    source: '0196f2a4-7c1e-7b3a-9d55-1f2e3d4c5b6a',
    snapshot: 'latest',
    vm: 'web-1-restored',
    uuid: '7d5ec2a4-4e0c-4d0f-8a9b-2f1c6e0a9b11'
  }
}
