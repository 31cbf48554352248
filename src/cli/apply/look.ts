// What there is of VMs: as the scheduler knows them, and what their hosts keep of what was asked for.

import { asHostletError, HostletError } from '../../errors.ts'
import type { VmView } from '../../protocol/api.ts'
import { VmSpecificationResult } from '../../protocol/plan.ts'
import { compile } from '../../protocol/validate.ts'
import { apiPath } from '../api-client.ts'
import type { Session } from '../client-command.ts'
import { untilDone } from '../follow.ts'
import type { ExistingVm } from './changes.ts'

const check = compile(VmSpecificationResult, 'answer of vm.specification')

/** Undefined for a VM that there is none of. Throws E_CONFLICT, E_BUSY and E_UNAVAILABLE for one that cannot be looked at. */
export async function findExisting(session: Session, name: string): Promise<ExistingVm | undefined> {
  const vm = await viewOf(session, name)
  if (vm === undefined) return undefined
  mustBeThere(vm)
  return await specificationOf(session, vm)
}

/** The same for a VM that has to be there: throws E_NOT_FOUND. */
export async function requireExisting(session: Session, name: string): Promise<ExistingVm> {
  const { client, signal } = session
  const { vm } = await client.ask({ method: 'GET', path: apiPath('vms', name), signal }, 'VmReply')
  mustBeThere(vm)
  return await specificationOf(session, vm)
}

async function viewOf({ client, signal }: Session, name: string): Promise<VmView | undefined> {
  try {
    return (await client.ask({ method: 'GET', path: apiPath('vms', name), signal }, 'VmReply')).vm
  } catch (error) {
    if (asHostletError(error).code === 'E_NOT_FOUND') return undefined
    throw error
  }
}

async function specificationOf(session: Session, { name, host }: VmView): Promise<ExistingVm> {
  const { client, signal } = session
  const path = apiPath('vms', name, 'specification')
  const { operation } = await client.ask({ method: 'POST', path, body: {}, signal }, 'OperationReply')
  const { value } = await untilDone(session, operation, { quiet: true })
  return { ...(check(value) as VmSpecificationResult), host }
}

function mustBeThere({ name, host, state, reason, operation, fresh }: VmView): void {
  const details = { details: { vm: name, host } }
  if (state === 'retained' || state === 'missing')
    throw new HostletError('E_CONFLICT', `VM ${name} is ${state}: ${reason}.`, details)
  if (state === 'pending')
    throw new HostletError(
      'E_BUSY',
      `VM ${name} is being made on host ${host}. Wait for it with "hostlet op wait ${operation ?? 'ID'}".`,
      details
    )
  if (fresh) return
  throw new HostletError(
    'E_UNAVAILABLE',
    `host ${host} of VM ${name} is away, and only it can tell what there is. See "hostlet host show ${host}".`,
    details
  )
}
