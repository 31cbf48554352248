// What one comparison between a VM's records and the VM is, and all that it may look at.

import type { DriftItem } from '../../protocol/drift.ts'
import type { VmRecord, VolumeRecord } from '../host/hypervisor.ts'
import type { MachineExamination } from '../host/inventory-port.ts'

/** Gathered before; rules only judge it. Undefined could not be looked at, and is no difference. */
export interface DriftFacts {
  readonly now: number
  readonly vm: VmRecord
  readonly examination: MachineExamination
  readonly volumes: ReadonlyMap<string, VolumeRecord> | undefined
  /** Volumes of which libvirt knows what they are: it calls an encrypted disk raw until it has looked. */
  readonly qcow2: ReadonlySet<string>
  /** Ids of the keys that libvirt was told. */
  readonly secrets: ReadonlySet<string> | undefined
  /** Of the newest command that the journal knows. */
  readonly generation: number | undefined
  readonly firewallFault: string | undefined
  /** Where the seed of the VM would be. */
  readonly seedPath: string
}

export interface Difference {
  readonly recorded: string
  readonly actual: string
}

export interface DriftRule extends Pick<DriftItem, 'id' | 'title' | 'severity' | 'repair' | 'next'> {
  judge(facts: DriftFacts): Difference | undefined
}

const charactersMax = 256

export function differs(recorded: string, actual: string): Difference {
  return { recorded: recorded.slice(0, charactersMax), actual: actual.slice(0, charactersMax) }
}

export function shown(words: readonly string[]): string {
  return words.length === 0 ? 'none' : words.join(', ')
}
