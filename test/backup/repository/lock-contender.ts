// A process that asks for the lock of a directory, tells how that went, waits for it, and holds it until it is killed.

import { DirectoryStore } from '../../../src/backup/repository/directory-store.ts'
import { acquireLock } from '../../../src/backup/repository/lock.ts'
import type { HostletError } from '../../../src/errors.ts'
import { systemClock } from '../../../src/lib/clock.ts'

const [directory = ''] = process.argv.slice(2)
const store = await DirectoryStore.open(directory)
const acquire = (waitMs: number) =>
  acquireLock(store, {
    name: 'vms/1/locks',
    holder: { host: 'here', instance: String(process.pid) },
    clock: systemClock,
    signal: new AbortController().signal,
    waitMs
  })

try {
  await acquire(0)
} catch (error) {
  process.send?.((error as HostletError).code)
  await acquire(50_000)
}
process.send?.('held')
// Alive until killed: the channel to the parent keeps the process.
process.on('message', () => undefined)
