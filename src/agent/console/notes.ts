// What the audit trail says of sessions on consoles: whose, on which VM, since when, and how much; never what.

import type { EntryFields } from '../../lib/chain.ts'
import type { ConsoleListener } from './consoles.ts'

export function consoleNotes(trail: { record(kind: string, fields?: EntryFields): void }): ConsoleListener {
  return {
    opened: (note) => trail.record('console.opened', { ...note }),
    closed: (note) => trail.record('console.closed', { ...note })
  }
}
