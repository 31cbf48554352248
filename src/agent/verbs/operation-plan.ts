// operation.plan: what another command would do here, and whether it would be taken; changes nothing.

import { HostletError } from '../../errors.ts'
import { Plan, PlanParams } from '../../protocol/plan.ts'
import type { Host } from '../host/host.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'

export const operationPlan = defineVerb<Pick<Host, never>>()({
  name: 'operation.plan',
  summary:
    'Tells what another command would do here: its steps, what would change, what that takes, and what the policy says. Changes nothing.',
  lock: 'none',
  looks: true,
  changes: false,
  deadlineMs: 60_000,
  afterCrash: 'resume',
  params: PlanParams,
  result: Plan,
  steps: () => [],
  async outcome(asked, _host, operation) {
    const { plan } = operation.others ?? {}
    if (plan === undefined) throw new HostletError('E_UNSUPPORTED', 'nothing here can plan a command')
    return await plan(asked, operation)
  }
})

export const document: VerbDocument = {
  errors: {
    E_BAD_REQUEST: 'the arguments do not fit the verb that they are for',
    E_UNSUPPORTED: 'this agent has no such verb',
    E_UNAVAILABLE: 'libvirt is away'
  },
  crash: 'Changes nothing and is not journaled: ask again.',
  remarks: [
    'The scheduler sends it for every request with `dryRun=true`: the command as it would be, with no generation.',
    'What would keep the command from being taken is `refusal`, and no error of the plan: a VM that is not there, no room, a host that is drained.',
    '`policy` is what the policy of the host would say now: `approval` where others would have to sign it too. The rate of commands is looked at, and not counted.',
    'A plan promises nothing: address, cores, ports and room may be gone when the command comes. Names of new disks and ids of new keys are drawn only then; ids of new keys are shown as zeros.',
    'User data in the arguments is opened as the command would open it, and thrown away.'
  ],
  example: {
    verb: 'vm.resize',
    subject: { vm: 'web-1', uuid: '0b54e6f2-6b53-4a3e-9d1c-0123456789ab' },
    arguments: { vm: 'web-1', cpus: 4 }
  }
}
