// vm.repair: puts a VM right where it is not as its records say, as far as that can do no harm.

import { type DriftItem, driftItemsMax, VmRepairParams, VmRepairResult } from '../../protocol/drift.ts'
import { lookAtDrift } from '../drift/look.ts'
import { isRepairable, repairDrift } from '../drift/repair.ts'
import type { Host } from '../host/host.ts'
import { defineVerb, type Operation } from '../operations/verb.ts'
import { planRepairs } from '../plans/looking.ts'
import type { VerbDocument } from './document.ts'
import { requireVm } from './subject.ts'

export const vmRepair = defineVerb<Host>()({
  name: 'vm.repair',
  summary: 'Puts right what of a VM is not as its records say, where that harms no running guest.',
  lock: 'vm',
  changes: true,
  deadlineMs: 120_000,
  afterCrash: 'resume',
  params: VmRepairParams,
  result: VmRepairResult,

  async check({ vm }, host, operation) {
    await requireVm(vm, host, operation)
  },

  steps: (params, host) => [
    {
      name: 'look at the VM',
      apply: async (operation) => ({ found: await look(params, host, operation) })
    },
    {
      name: 'put it right',
      apply: async (operation) => {
        if (params.dryRun === true) return
        const vm = await requireVm(params.vm, host, operation)
        const found = foundIn(operation)
        await repairDrift(vm, { wanted: chosen(params, found), found }, host, operation)
      }
    }
  ],

  async plan(params, host, operation) {
    const found = await look(params, host, operation)
    return planRepairs(params.vm, params.dryRun ? [] : chosen(params, found), found)
  },

  async outcome(params, host, operation) {
    const { vm, dryRun = false } = params
    const wanted = chosen(params, foundIn(operation))
    if (dryRun) {
      const remaining = foundIn(operation).filter((item) => !wanted.includes(item))
      return { vm, dryRun, repaired: wanted, remaining }
    }
    const remaining = await look(params, host, operation)
    const repaired = wanted.filter(({ id }) => !remaining.some((item) => item.id === id))
    return { vm, dryRun, repaired, remaining }
  }
})

async function look({ vm }: VmRepairParams, host: Host, operation: Operation): Promise<DriftItem[]> {
  return (await lookAtDrift(await requireVm(vm, host, operation), host, operation)).slice(0, driftItemsMax)
}

/** By itself the agent puts right only what needs nobody's word. */
function chosen({ scope = 'all' }: VmRepairParams, items: readonly DriftItem[]): DriftItem[] {
  return items.filter((item) => isRepairable(item) && (scope === 'all' || item.repair === 'self'))
}

function foundIn({ notes }: Operation): readonly DriftItem[] {
  return (notes.found ?? []) as readonly DriftItem[]
}

export const document: VerbDocument = {
  errors: {
    E_NOT_FOUND: 'the VM is not defined on this host, or the key of one of its disks is lost',
    E_CONFLICT: "the name belongs to another VM or to a domain that is not hostlet's",
    E_STALE: 'the VM has carried out a newer command',
    E_UNAVAILABLE: 'libvirt is away, or the network rules cannot be applied'
  },
  crash: 'Looks and puts right again: each part has no effect where it is right already.',
  remarks: [
    'What is compared, and what of it is put right by whom, is in `docs/operate-inventory.md`.',
    'The agent runs it by itself, with `scope` `self`, for what it finds and may put right without asking.',
    '`dryRun` changes nothing and answers with what it would put right.',
    'Disks, cards and other devices are never changed by it.'
  ],
  example: { vm: 'web-1', dryRun: true }
}
