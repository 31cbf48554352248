// What a host's messages about disks' keys do: kept, destroyed, given out for a start. Each is a line of the log.

import type { AgentMessageOf } from '../../protocol/messages.ts'
import type { Session } from './handlers.ts'

/** A key that cannot be kept is answered with the reason: its host goes on telling that it lies nowhere else. */
export async function keepKeys({ keys }: AgentMessageOf<'disk-keys'>, session: Session): Promise<void> {
  const { store, host, now, log, send } = session
  const answers: { id: string; revision: number; fault?: string }[] = []
  for (const key of keys) {
    const { id, revision, vm } = key
    const fault = await store.diskKeys.keep(host, key, now())
    answers.push({ id, revision, ...(fault !== undefined && { fault }) })
    if (fault === undefined) log.info({ key: id, vm }, 'key of a disk kept')
    else log.warn({ key: id, vm, reason: fault }, 'key of a disk not kept')
  }
  await send({ type: 'disk-keys-ack', keys: answers })
}

/** Acknowledged also where there is nothing to destroy, or nothing that this host may speak of: it would tell it for ever. */
export async function removeKeys(
  { keys }: AgentMessageOf<'disk-keys-gone'>,
  { store, host, now, log, send }: Session
): Promise<void> {
  for (const key of keys)
    if (await store.diskKeys.remove(host, key, now()))
      log.info({ key: key.id ?? 'all', uuid: key.uuid }, 'key of a disk destroyed')
    else log.warn({ key: key.id ?? 'all', uuid: key.uuid }, 'end of a key of another host is left aside')
  await send({ type: 'disk-keys-gone-ack', keys })
}

export async function giveKeys(
  { request, ids }: AgentMessageOf<'disk-keys-request'>,
  { store, host, now, log, send }: Session
): Promise<void> {
  const { granted, denied } = await store.diskKeys.grant(host, ids, now())
  for (const { id } of granted) log.info({ key: id }, 'key of a disk given to its host')
  for (const { id, reason } of denied) log.warn({ key: id, reason }, 'key of a disk not given to a host')
  await send({ type: 'disk-keys-grant', request, keys: [...granted], denied: [...denied] })
}
