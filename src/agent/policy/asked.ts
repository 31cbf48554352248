// What a command asks for, as far as rules look at it: its VMs, its image, and the VM that it would make or change.

import type { CommandClaims } from '../../protocol/command.ts'
import type { ImageReference, VmSpecification } from '../../protocol/vm.ts'
import type { VmRecord } from '../host/hypervisor.ts'
import { fits, fitsVm, type NamedVm } from './patterns.ts'

export interface Asked {
  readonly verb: string
  readonly subject: CommandClaims['subject']
  /** Arguments that fit the verb's schema. */
  readonly params: Readonly<Record<string, unknown>>
}

/** What rules may ask of the host: its VMs, asked for where a rule needs them and not before. */
export interface HostView {
  vms(): Promise<readonly VmRecord[]>
}

/** VMs that a command is about. `unknown`: one is named by its UUID alone and is not here, so that it may be any. */
export interface AskedVms {
  readonly vms: readonly NamedVm[]
  readonly unknown: boolean
}

export function askedOf({ verb, subject }: CommandClaims, params: unknown): Asked {
  return { verb, subject, params: (params ?? {}) as Record<string, unknown> }
}

export function imageOf({ params }: Asked): ImageReference | undefined {
  return (params.image ?? specificationOf({ params })?.image) as ImageReference | undefined
}

export function specificationOf({ params }: Pick<Asked, 'params'>): VmSpecification | undefined {
  return params.specification as VmSpecification | undefined
}

/**
 * Every VM that the command names, by the names and UUIDs that this host knows of it: a command that has the name of one
 * VM and the UUID of another is about both.
 */
export async function vmsOf(asked: Asked, host: HostView): Promise<AskedVms> {
  const named = namedBy(asked)
  if (named.length === 0) return { vms: [], unknown: false }
  const here = (await host.vms()).map(({ specification: { name, uuid } }) => ({ name, uuid }))
  const meant = here.filter((vm) =>
    named.some(({ name, uuid }) => (name !== undefined && name === vm.name) || uuid === vm.uuid)
  )
  const unknown = named.some(({ name, uuid }) => name === undefined && !here.some((vm) => vm.uuid === uuid))
  return { vms: [...named, ...meant], unknown }
}

export function fitsVerb(patterns: readonly string[], verb: string): boolean {
  return patterns.some((pattern) => fits(pattern, verb))
}

/** Whether a rule for some VMs is one for these. Without patterns it is one for all commands, also those about no VM. */
export function concerns(patterns: readonly string[] | undefined, { vms, unknown }: AskedVms): boolean {
  if (patterns === undefined || unknown) return true
  return vms.some((vm) => patterns.some((pattern) => fitsVm(pattern, vm)))
}

function namedBy({ subject, params }: Asked): NamedVm[] {
  const specification = specificationOf({ params })
  const text = (value: unknown) => (typeof value === 'string' ? value : undefined)
  const named: NamedVm[] = [
    { name: subject?.vm, uuid: subject?.uuid },
    { name: text(params.vm), uuid: text(params.uuid) },
    { name: specification?.name, uuid: specification?.uuid },
    // Whose backups it is about.
    { uuid: text(params.source) }
  ]
  return named.filter(({ name, uuid }) => name !== undefined || uuid !== undefined)
}
