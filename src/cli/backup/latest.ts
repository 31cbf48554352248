// "latest" in the place of a backup's id: the newest backup of a VM that the scheduler knows.

import { HostletError } from '../../errors.ts'
import type { Session } from '../client-command.ts'

/** Throws E_BAD_REQUEST for `latest` without a VM, E_CONFLICT where several had the name, E_NOT_FOUND where there is none. */
export async function backupId(session: Session, given: string, vm: string | undefined): Promise<string> {
  if (given !== 'latest') return given
  if (vm === undefined) throw new HostletError('E_BAD_REQUEST', '"latest" of which VM? Name it with --vm.')
  const request = {
    method: 'GET',
    path: '/v1/backups',
    query: { vm, limit: 1_000 },
    signal: session.signal
  } as const
  const { backups } = await session.client.ask(request, 'BackupList')
  const [newest] = backups
  if (newest === undefined)
    throw new HostletError(
      'E_NOT_FOUND',
      `there is no backup of a VM ${vm}. See "hostlet backup ls" for those that there are.`
    )
  const uuids = [...new Set(backups.map(({ uuid }) => uuid))]
  if (uuids.length > 1)
    throw new HostletError(
      'E_CONFLICT',
      `several VMs were named ${vm} when they were backed up. Give the UUID of one with --vm: ${uuids.join(', ')}.`
    )
  return newest.snapshot
}
