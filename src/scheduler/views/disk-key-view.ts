// A disk's key as people and programs see it: whose it is and who could open it.

import type { DiskKeyView } from '../../protocol/api.ts'
import type { DiskKeyRecord } from '../store/disk-key-store.ts'
import { present } from './operation-view.ts'

export function diskKeyView(record: DiskKeyRecord): DiskKeyView {
  const { id, vm, uuid, host, volume, createdAt, storedAt, recovery, wrapped, grantedAt, removedAt } = record
  return {
    ...{ id, vm, uuid, host, volume, createdAt, storedAt },
    place: wrapped === undefined ? 'host' : 'scheduler',
    recipients: recovery?.recipients.map(({ header }) => header.kid) ?? [],
    ...present({ recovery, grantedAt, removedAt })
  }
}
