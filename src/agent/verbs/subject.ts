// What verbs on one VM share: the VM that a command is about, and the checks before anything is begun.

import { HostletError } from '../../errors.ts'
import type { CommandSubject } from '../../protocol/command.ts'
import type { Host } from '../host/host.ts'
import type { VmRecord } from '../host/hypervisor.ts'
import { refuseRetained } from '../host/retained.ts'
import type { Operation } from '../operations/verb.ts'

/** The subject of a command that changes a VM. Throws E_BAD_REQUEST when there is none, or it is about another VM. */
export function subjectOf(operation: Operation, vm: string): CommandSubject {
  const { subject } = operation
  if (subject === undefined)
    throw new HostletError('E_BAD_REQUEST', `${operation.verb} needs a subject: VM, UUID and generation`)
  if (subject.vm === vm) return subject
  throw new HostletError(
    'E_BAD_REQUEST',
    `the command is about VM ${subject.vm}, its arguments are about VM ${vm}`
  )
}

/** The VM that the command is about. Throws E_NOT_FOUND, and E_CONFLICT when the name belongs to another one. */
export async function requireVm(name: string, host: Host, operation: Operation): Promise<VmRecord> {
  const { signal, subject } = operation
  return await host.vms.require(name, { signal, uuid: subject?.uuid })
}

/** Before the journal: the VM is there, and knows no newer command. Throws E_STALE besides, E_CONFLICT when it is only kept. */
export async function checkVm(name: string, host: Host, operation: Operation): Promise<VmRecord> {
  const { generation } = subjectOf(operation, name)
  const record = await requireVm(name, host, operation)
  refuseStale(record, generation)
  return refuseRetained(record)
}

export function refuseStale(record: VmRecord, generation: number): void {
  if (record.generation < generation) return
  const { name } = record.specification
  throw new HostletError(
    'E_STALE',
    `VM ${name} has carried out generation ${record.generation} already, the command is of generation ${generation}. Look at the VM, and send a new command.`,
    { details: { vm: name, generation: record.generation } }
  )
}
