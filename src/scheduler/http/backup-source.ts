// Which VM's backups a request means, in which repository: told by name or UUID, found in what hosts reported.

import { HostletError } from '../../errors.ts'
import type { HostRecord, Store } from '../store/store.ts'
import { findHost } from './lookup.ts'

const uuidForm = /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/

/** UUID of the VM. A name means the VM that has it now, then the one that had it. Throws E_NOT_FOUND, E_CONFLICT where several had it. */
export async function findSource(store: Store, named: string): Promise<string> {
  if (uuidForm.test(named)) return named
  const now = (await store.vms.find(named))?.uuid
  const before = await store.backups.sourcesNamed(named)
  if (now !== undefined && (before.includes(now) || before.length === 0)) return now
  const [only, ...others] = before
  if (only === undefined)
    throw new HostletError(
      'E_NOT_FOUND',
      `this scheduler knows no backup of a VM ${named}. See "hostlet backup ls", or give the UUID of the VM and --target.`
    )
  if (others.length === 0) return only
  throw new HostletError(
    'E_CONFLICT',
    `several VMs were named ${named} when they were backed up. Give the UUID of one: ${before.join(', ')}.`
  )
}

/** The repository of a VM's backups where only one is known. Throws E_BAD_REQUEST where it has to be said. */
export async function findTarget(store: Store, source: string, given: string | undefined): Promise<string> {
  if (given !== undefined) return given
  const [only, ...others] = await store.backups.targetsOf(source)
  if (only !== undefined && others.length === 0) return only
  const known = [only, ...others].join(', ')
  throw new HostletError(
    'E_BAD_REQUEST',
    only === undefined
      ? `this scheduler knows no backup of VM ${source}: name the repository to look in as target ("--target"), and see "hostlet backup runs" for how its backups went.`
      : `VM ${source} has backups in several repositories: name one as target (${known}).`
  )
}

/** Who is to work on backups: the host that is named, or the one that made the newest of them. Throws E_NOT_FOUND, E_CONFLICT. */
export async function hostOfBackups(
  store: Store,
  given: string | undefined,
  maker: string | undefined
): Promise<HostRecord> {
  const id = given ?? maker
  if (id === undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      'this scheduler does not know which host made these backups: name a host that has their repository in its policy.'
    )
  const host = await findHost(store, id)
  if (host.revokedAt === undefined || given !== undefined) return host
  throw new HostletError(
    'E_CONFLICT',
    `host ${id}, which made this backup, is revoked. Name another host that has its repository in its policy and a key to it.`
  )
}

/** The newest snapshot that is known, for the host to compare with what it finds: a repository may have been rolled back. */
export async function expectedOf(
  store: Store,
  source: string,
  target: string
): Promise<{ expected?: string }> {
  const newest = await store.backups.newest(source, target)
  return newest === undefined ? {} : { expected: newest.record.snapshot }
}
