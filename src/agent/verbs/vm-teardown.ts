// vm.teardown: erases a VM with everything that provision made, whole or half, now or after the days for which it is kept.

import { HostletError } from '../../errors.ts'
import { VmTeardownParams, VmTeardownResult } from '../../protocol/lifecycle.ts'
import type { Host } from '../host/host.ts'
import { erasedResult, eraseFailure, eraseSteps, recordOf } from '../lifecycle/erase.ts'
import { retainedResult, retainSteps } from '../lifecycle/retain.ts'
import { defineVerb } from '../operations/verb.ts'
import { planTeardown } from '../plans/removing.ts'
import type { VerbDocument } from './document.ts'
import { refuseStale, subjectOf } from './subject.ts'

const eraseMs = 600_000
/** Objects of a repository go one by one. */
const eraseBackupsMs = 6 * 3_600_000

export const vmTeardown = defineVerb<Host>()({
  name: 'vm.teardown',
  summary:
    'Erases a VM: the keys of its disks first, then disks, address and seed, with a signed certificate. Or keeps it, off, for some days, and erases it then.',
  lock: 'vm',
  backups: 'end',
  changes: true,
  priority: 'urgent',
  deadlineMs: eraseMs,
  afterCrash: 'resume',
  params: VmTeardownParams,
  result: VmTeardownResult,
  deadline: ({ backups }) => (backups === true ? eraseBackupsMs : eraseMs),
  rest: {
    deadline: ({ backups }) => (backups === true ? eraseBackupsMs : eraseMs),
    failure: eraseFailure
  },

  async check({ vm, retainDays, backups }, host, operation) {
    const { generation } = subjectOf(operation, vm)
    const record = await recordOf(vm, host, operation)
    if (record !== undefined) return refuseStale(record, generation)
    await host.vms.refuseForeign({ name: vm }, operation)
    // A UUID alone says nothing of whose they are: every host that shares the repository could erase those of any VM.
    if (backups === true) throw absentWithBackups(subjectOf(operation, vm))
    if (retainDays !== undefined)
      throw new HostletError(
        'E_NOT_FOUND',
        `VM ${vm} is not defined on this host: there is nothing to keep. Tear it down without keeping it, to remove what may be left.`,
        { details: { vm } }
      )
  },

  steps: ({ vm, retainDays, backups }, host) =>
    retainDays === undefined
      ? eraseSteps({ vm, host, backups: () => backups === true, keepsBackups: backups !== true })
      : retainSteps({ vm, host, retainDays, backups: backups === true }),

  plan: async (params, host, operation) =>
    planTeardown(params, await recordOf(params.vm, host, operation), host, operation),

  outcome: ({ vm, retainDays }, _host, operation) =>
    Promise.resolve(retainDays === undefined ? erasedResult(vm, operation) : retainedResult(vm, operation))
})

function absentWithBackups({ vm, uuid }: { vm: string; uuid: string }): HostletError {
  return new HostletError(
    'E_NOT_FOUND',
    `VM ${vm} is not defined on this host, which erases the backups of its own VMs only. Tear it down without erasing backups, to remove what may be left here; then remove vms/${uuid}/ from the repositories.`,
    { details: { vm, uuid } }
  )
}

export const document: VerbDocument = {
  errors: {
    E_NOT_FOUND: 'it is to be kept, or its backups are to be erased, and it is not defined on this host',
    E_CONFLICT:
      "the name belongs to another VM or to a domain that is not hostlet's, or the UUID is that of a VM with another name; none of them is touched, nothing is removed",
    E_STALE: 'the VM has carried out a newer command',
    E_UNAVAILABLE: 'libvirt is away, or a key could not be destroyed: then no volume was removed either'
  },
  crash:
    'Runs on until nothing is left, however often it was begun. What there was is noted before anything goes, so that the certificate is whole.',
  remarks: [
    'Without `retainDays` the power is cut without asking the guest: its disks are removed anyway. Stop it first where the guest should say goodbye.',
    'Keys are destroyed before any volume is touched: what is left of an encrypted disk is unreadable from then on, whatever becomes of the rest. Succeeds when there is nothing left to remove.',
    "The certificate is a compact JWS of the type `hostlet-erase+jwt`, signed with the host's key and with its certificates: `docs/protocol.md` has its content, `hostlet verify-certificate` checks it offline. It says what could not be removed (`failed`), that a disk was not encrypted, and which backups still exist or could not be asked for.",
    'A volume that cannot be removed is told in `remaining`; the rest goes all the same. Tear the VM down again for another try.',
    'Also removes what a half-made VM left: keys, disks by name and UUID, the address by the MAC that follows from the UUID.',
    'With `retainDays` the guest is asked to power off, and the VM stays defined and off, with its disks, keys, name, address and backup schedule. It cannot be started. `vm.undelete` has it back; when the time is over the host erases it by itself ([vm.erase](vm.erase.md)), also while the scheduler is away. Asked again with other days, those count, from then on; asked without, it is erased at once.',
    'A backup that runs or waits is cancelled: its result says so.',
    "Backups of the VM stay in their repositories, and it can be restored from them, unless `backups` is true: then everything of the VM is removed from each repository that the host's policy names. One that cannot be reached is told in the certificate, not waited for. A host erases backups of the VMs that are defined on it, of no others.",
    'Base images stay: other VMs may use them. What no VM uses is removed when the room for images is needed.'
  ],
  example: { vm: 'web-1' }
}
