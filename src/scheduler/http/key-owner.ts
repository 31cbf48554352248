// Which VM's keys a request means: told by name or UUID, of a VM that there is, or one that hosts told keys of.

import { HostletError } from '../../errors.ts'
import type { Store } from '../store/store.ts'

const uuidForm = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** A name means the VM that has it now, then the one that had it. Throws E_NOT_FOUND, E_CONFLICT where several had it. */
export async function findKeyOwner(store: Store, named: string): Promise<{ vm: string; uuid: string }> {
  if (uuidForm.test(named)) return byUuid(store, named)
  const now = await store.vms.find(named)
  if (now !== undefined) return { vm: named, uuid: now.uuid }
  const [only, ...others] = await store.diskKeys.uuidsNamed(named)
  if (only === undefined) throw unknown(named)
  if (others.length === 0) return { vm: named, uuid: only }
  throw new HostletError(
    'E_CONFLICT',
    `there are keys of several VMs that were named ${named}. Give the UUID of one: ${[only, ...others].join(', ')}.`
  )
}

async function byUuid(store: Store, uuid: string): Promise<{ vm: string; uuid: string }> {
  const { items } = await store.diskKeys.list({ uuid, removed: true }, 1)
  if (items[0] === undefined) throw unknown(uuid)
  return { vm: items[0].vm, uuid }
}

function unknown(named: string): HostletError {
  return new HostletError(
    'E_NOT_FOUND',
    `this scheduler knows no keys of a VM ${named}. See "hostlet vm keys" for those that there are.`
  )
}
