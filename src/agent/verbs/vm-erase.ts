// vm.erase: the end of a VM that was torn down and kept, once its time is over. The agent begins it by itself.

import { HostletError } from '../../errors.ts'
import { VmEraseResult, VmUndeleteParams } from '../../protocol/lifecycle.ts'
import type { Host } from '../host/host.ts'
import type { VmRecord } from '../host/hypervisor.ts'
import { untilText } from '../host/retained.ts'
import { erasedResult, eraseSteps, recordOf } from '../lifecycle/erase.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'
import { requireVm } from './subject.ts'

export const vmErase = defineVerb<Host>()({
  name: 'vm.erase',
  summary: 'Erases a VM that was torn down and kept, once its time is over. The host begins it by itself.',
  lock: 'vm',
  backups: 'end',
  changes: true,
  priority: 'urgent',
  deadlineMs: 6 * 3_600_000,
  afterCrash: 'resume',
  params: VmUndeleteParams,
  result: VmEraseResult,

  async check({ vm }, host, operation) {
    requireDue(await requireVm(vm, host, operation), host)
  },

  steps: ({ vm }, host) => [
    {
      name: 'look whether its time is over',
      apply: async (operation) => {
        // After a crash the definition may be gone already.
        const record = await recordOf(vm, host, operation)
        return record && { withBackups: requireDue(record, host).backups === true }
      }
    },
    ...eraseSteps({ vm, host, backups: ({ notes }) => notes.withBackups === true })
  ],

  outcome: ({ vm }, _host, operation) => Promise.resolve(erasedResult(vm, operation))
})

/** Somebody may have had it back meanwhile, or asked for more days. */
function requireDue({ specification: { name }, retained }: VmRecord, { clock }: Host) {
  if (retained !== undefined && clock.now() >= retained.until) return retained
  const state = retained === undefined ? 'was not torn down' : `is kept ${untilText(retained)}`
  throw new HostletError(
    'E_CONFLICT',
    `VM ${name} ${state}: it is not erased. Tear it down to have it erased now.`,
    {
      details: { vm: name }
    }
  )
}

export const document: VerbDocument = {
  errors: {
    E_NOT_FOUND: 'the VM is not defined on this host',
    E_CONFLICT:
      "the VM is to be kept longer, or was not torn down, or the name belongs to another VM or to a domain that is not hostlet's",
    E_UNAVAILABLE: 'libvirt is away, or a key could not be destroyed: then no volume was removed either'
  },
  crash: 'Runs on until nothing is left.',
  remarks: [
    'Begun by the host at the time that `vm.teardown` named, by its own clock, whether or not the scheduler can be reached, and at the first look after it where the host was off then. A try that fails is repeated every few minutes.',
    'Does what `vm.teardown` does, and erases the backups where that was asked for. The certificate is sent to the scheduler until that has acknowledged it.',
    'It carries the generation that the VM has: it overtakes no command.'
  ],
  example: { vm: 'web-1' }
}
