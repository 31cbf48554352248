// vm.stop: asks the guest to power off, and cuts the power when it does not in time.

import { Type } from '../../lib/schema.ts'
import { Milliseconds, strict, VmName } from '../../protocol/names.ts'
import { VmSummary } from '../../protocol/vm.ts'
import type { Host } from '../host/host.ts'
import { offSince, writeEarly, writeLate } from '../lifecycle/stay-off.ts'
import { defineVerb } from '../operations/verb.ts'
import { planStop } from '../plans/changing.ts'
import type { VerbDocument } from './document.ts'
import { checkVm, requireVm } from './subject.ts'

/** Longest time that the host's configuration may give a guest; a command may give it longer. */
const graceMsMax = 3_600_000
/** For the cut of the power, and libvirt's own wait for QEMU to end. */
const cutMs = 120_000

export const vmStop = defineVerb<Host>()({
  name: 'vm.stop',
  summary: 'Switches a VM off: by its power button first, by cutting the power when the time is over.',
  lock: 'vm',
  changes: true,
  priority: 'urgent',
  deadlineMs: graceMsMax + cutMs,
  afterCrash: 'resume',
  params: Type.Object(
    {
      vm: VmName,
      /** How long the guest has to power off. Absent: as the host's configuration says (stop.graceMs). */
      graceMs: Type.Optional(Milliseconds),
      /** Cuts the power at once. */
      force: Type.Optional(Type.Boolean())
    },
    strict
  ),
  result: Type.Object({ vm: VmSummary, forced: Type.Boolean() }, strict),
  deadline: ({ graceMs }) => (graceMs ?? graceMsMax) + cutMs,

  async check({ vm }, host, operation) {
    await checkVm(vm, host, operation)
  },

  steps: ({ vm, graceMs, force }, host) => [
    {
      name: 'have it stay off',
      apply: async (operation) => {
        // Nothing is asked of a machine that is to be cut off before it is.
        if (force === true) return { written: false }
        await requireVm(vm, host, operation)
        return await writeEarly(host, vm, offSince(operation, vm), operation)
      }
    },
    {
      name: 'power off',
      apply: async (operation) => {
        await requireVm(vm, host, operation)
        const patience = graceMs ?? Math.min(host.config.stop.graceMs, graceMsMax)
        const { signal } = operation
        const progress = operation.progress.bind(operation)
        return await host.vms.stop(vm, { signal, progress, graceMs: force === true ? 0 : patience })
      }
    },
    {
      // Until then a host that boots leaves the VM to this operation.
      name: 'have it stay off where that could not be written before',
      apply: async (operation) => {
        await requireVm(vm, host, operation)
        await writeLate(host, vm, offSince(operation, vm), operation)
      }
    }
  ],

  plan: planStop,

  async outcome({ vm }, host, operation) {
    const record = await requireVm(vm, host, operation)
    return { vm: host.vms.summary(record), forced: operation.notes.forced === true }
  }
})

export const document: VerbDocument = {
  errors: {
    E_NOT_FOUND: 'the VM is not defined on this host',
    E_CONFLICT: "the name belongs to another VM or to a domain that is not hostlet's",
    E_STALE: 'the VM has carried out a newer command',
    E_UNAVAILABLE: 'libvirt is away'
  },
  crash: 'Runs on; the guest gets its whole time again. A VM that is off already is left alone.',
  remarks: [
    'The power button is pressed again every few seconds: a guest that was still booting did not hear the first.',
    'With `force`, and once the grace is over, the power is cut whether or not QEMU answers: a machine that hangs is ended, and that it stays off is written afterwards.',
    '`forced` in the result says whether the power had to be cut. Disks of a guest that was cut off are as after a power failure.'
  ],
  example: { vm: 'web-1', graceMs: 60_000 }
}
