// SQLite's errors as ours: a full disk is not a damaged file.

import { type ErrorCode, HostletError } from '../../errors.ts'

const full = {
  code: 'E_CAPACITY',
  next: 'The disk of the state directory is full: free some of it.'
} as const

/** sqlite.org/rescode.html, primary result codes, and one that says more; anything else is a bug of ours. */
const codes: Readonly<Record<number, { code: ErrorCode; next: string }>> = {
  5: { code: 'E_BUSY', next: 'Another process holds it: is a second agent running?' },
  8: { code: 'E_UNAVAILABLE', next: 'The file or its directory is read-only.' },
  10: { code: 'E_UNAVAILABLE', next: 'The disk failed: see the kernel log.' },
  11: { code: 'E_CORRUPT', next: 'Move it away and start again: VMs are not touched, libvirt knows them.' },
  13: full,
  14: { code: 'E_UNAVAILABLE', next: 'Check that the state directory exists and belongs to the agent.' },
  // SQLITE_IOERR_SHMSIZE: no room for the index of the log.
  4874: full,
  26: { code: 'E_CORRUPT', next: 'Move it away and start again: VMs are not touched, libvirt knows them.' }
}

/** Runs `work`; what SQLite throws becomes a HostletError. `what` completes "could not ...". */
export function guarded<Value>(what: string, work: () => Value): Value {
  try {
    return work()
  } catch (cause) {
    const number = (cause as { errcode?: unknown }).errcode
    if (typeof number !== 'number') throw cause
    const known = codes[number] ?? codes[number & 0xff]
    const reason = cause instanceof Error ? cause.message : String(cause)
    const text = `could not ${what}: ${reason}. ${known?.next ?? 'Please report it.'}`
    throw new HostletError(known?.code ?? 'E_INTERNAL', text, { cause, details: { sqlite: number } })
  }
}
