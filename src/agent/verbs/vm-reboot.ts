// vm.reboot: asks the guest to reboot, or resets the machine.

import { asHostletError, HostletError } from '../../errors.ts'
import { Type } from '../../lib/schema.ts'
import { strict, VmName } from '../../protocol/names.ts'
import { VmSummary } from '../../protocol/vm.ts'
import type { Host } from '../host/host.ts'
import { defineVerb } from '../operations/verb.ts'
import { planReboot } from '../plans/changing.ts'
import type { VerbDocument } from './document.ts'
import { checkVm, requireVm, subjectOf } from './subject.ts'

const graceMsMax = 3_600_000
const resetMs = 60_000

export const vmReboot = defineVerb<Host>()({
  name: 'vm.reboot',
  summary: 'Reboots a running VM: its guest is asked to, or, with force, the machine is reset.',
  lock: 'vm',
  changes: true,
  deadlineMs: graceMsMax + resetMs,
  // Run again, it would reboot the VM a second time.
  afterCrash: 'rollback',
  params: Type.Object(
    {
      vm: VmName,
      /** Resets the machine at once, as its reset button would. */
      force: Type.Optional(Type.Boolean())
    },
    strict
  ),
  result: Type.Object({ vm: VmSummary, forced: Type.Boolean() }, strict),

  async check({ vm }, host, operation) {
    const record = await checkVm(vm, host, operation)
    if (record.state !== 'running') throw notRunning(vm, record.state)
  },

  steps: ({ vm, force }, host) => [
    {
      name: 'note the generation',
      apply: async (operation) => {
        await requireVm(vm, host, operation)
        await host.hypervisor.annotate(vm, { generation: subjectOf(operation, vm).generation }, operation)
      }
    },
    {
      name: 'reboot',
      apply: async (operation) => {
        const { state } = await requireVm(vm, host, operation)
        if (state !== 'running') throw notRunning(vm, state)
        const { signal } = operation
        const graceMs = Math.min(host.config.stop.graceMs, graceMsMax)
        const rebooting =
          force === true ? host.hypervisor.reset(vm, { signal }) : host.vms.reboot(vm, { signal, graceMs })
        await rebooting.catch((error) => {
          throw onlyOnce(vm, error)
        })
      }
    }
  ],

  plan: planReboot,

  async outcome({ vm, force }, host, operation) {
    const record = await requireVm(vm, host, operation)
    return { vm: host.vms.summary(record), forced: force === true }
  }
})

/** A step that libvirt interrupts by going away is tried again; this one may have been done. */
function onlyOnce(vm: string, thrown: unknown): HostletError {
  const cause = asHostletError(thrown)
  if (cause.code !== 'E_INTERRUPTED') return cause
  const text = `libvirt went away in the middle of the reboot of VM ${vm}: look whether it has rebooted, then ask anew.`
  return new HostletError('E_TIMEOUT', text, { cause, details: { vm } })
}

function notRunning(vm: string, state: string): HostletError {
  return new HostletError(
    'E_CONFLICT',
    `VM ${vm} is ${state}: only a running VM reboots. Start it instead.`,
    {
      details: { vm, state }
    }
  )
}

export const document: VerbDocument = {
  errors: {
    E_NOT_FOUND: 'the VM is not defined on this host',
    E_CONFLICT:
      "the VM is not running, or the name belongs to another VM or to a domain that is not hostlet's",
    E_STALE: 'the VM has carried out a newer command',
    E_TIMEOUT:
      'the guest did not reboot within the time of the configuration (stop.graceMs), and may still do so; or libvirt went away in the middle of it: look whether the VM has rebooted',
    E_INTERRUPTED: 'the agent was stopped meanwhile: look whether the VM has rebooted',
    E_UNAVAILABLE: 'libvirt is away'
  },
  crash: 'Is not run again, since the VM would reboot twice: the answer is E_INTERRUPTED.',
  example: { vm: 'web-1' }
}
