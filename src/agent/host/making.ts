// How far a VM is that is being made: its own metadata say, also to an agent whose journal is an older copy of itself.

import { HostletError } from '../../errors.ts'
import type { Hypervisor, VmRecord, Wait } from './hypervisor.ts'

type Progress = Pick<VmRecord, 'wanted' | 'state'>

/**
 * One per run of an operation. A VM is wanted to be stopped until it is ready, and wanted to run from then on: that is how
 * one that is made is told from one that is not, whatever step the journal names.
 */
export class Making {
  readonly #hypervisor: Pick<Hypervisor, 'annotate'>
  #announced = false

  constructor(hypervisor: Pick<Hypervisor, 'annotate'>) {
    this.#hypervisor = hypervisor
  }

  /** The VM is made. Until this run has ended it may take that back. */
  async announce(vm: string, wait: Wait): Promise<void> {
    this.#announced = true
    await this.#hypervisor.annotate(vm, { wanted: 'running' }, wait)
  }

  /** The same for a VM that has to go when its making fails. Throws E_CONFLICT for one that an earlier run made: it stays. */
  async takeBackNew(record: Pick<VmRecord, 'specification'> & Progress, wait: Wait): Promise<void> {
    const { name } = record.specification
    if (isMade(record) && !this.#announced)
      throw new HostletError(
        'E_CONFLICT',
        `VM ${name} was ready before the agent was restarted: nothing of it is removed.`,
        { details: { vm: name } }
      )
    await this.takeBack(name, wait)
  }

  /** No effect on a VM that an earlier run made. */
  async takeBack(vm: string, wait: Wait): Promise<void> {
    if (this.#announced) await this.#hypervisor.annotate(vm, { wanted: 'stopped' }, wait)
    this.#announced = false
  }
}

export function isOff({ state }: Pick<VmRecord, 'state'>): boolean {
  return state === 'stopped' || state === 'crashed'
}

export function isMade({ wanted }: Progress): boolean {
  return wanted === 'running'
}

/** It runs, or did: its disks and its address are not made anew. */
export function isPastItsDisks(record: Progress): boolean {
  return isMade(record) || !isOff(record)
}

/** Whether what there is of a VM may be undone: nothing of one that is made. Throws E_CONFLICT for one that is on. */
export function mayUndo(record: Pick<VmRecord, 'specification'> & Progress): boolean {
  if (isMade(record)) return false
  if (isOff(record)) return true
  const { name } = record.specification
  throw new HostletError(
    'E_CONFLICT',
    `VM ${name} is ${record.state}: nothing of a machine that is on is removed. Stop it, then tear it down.`,
    { details: { vm: name } }
  )
}
