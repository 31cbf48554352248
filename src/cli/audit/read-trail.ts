// The entries of this host's trail as commands show them, in either direction, and what waits to be taken in.

import { join } from 'node:path'
import { fieldsOfAction, pendingActions } from '../../agent/trail/local-actions.ts'
import { type Line, linesOf, listTrail, localDirectoryName, readSegment } from '../../agent/trail/segments.ts'
import { openLine } from '../../lib/chain.ts'
import type { Shown } from './entries.ts'

/** Oldest first. */
export function* entriesOfTrail(directory: string): Generator<{ entry: Shown; line: Line }> {
  for (const segment of listTrail(directory).segments)
    for (const line of linesOf(segment.name, readSegment(segment))) yield { entry: shown(line), line }
}

/** The newest that are wanted, in their order. `more`: there are older ones. */
export function newestOfTrail(
  directory: string,
  isWanted: (entry: Shown) => boolean,
  limit: number
): { entries: Shown[]; more: boolean } {
  const found: Shown[] = []
  for (const segment of listTrail(directory).segments.toReversed()) {
    const lines = [...linesOf(segment.name, readSegment(segment))]
    found.unshift(...lines.map(shown).filter(isWanted))
    if (found.length > limit) break
  }
  return { entries: found.slice(-limit), more: found.length > limit }
}

export function waitingOfTrail(directory: string): Shown[] {
  return pendingActions(join(directory, localDirectoryName)).map((pending) => ({
    ...fieldsOfAction(pending),
    seq: undefined,
    at: pending.action?.at ?? 0,
    kind: 'local',
    prev: '',
    hash: '',
    message: 'not in the chain yet: the agent takes it in'
  }))
}

function shown({ file, line, offset, bytes }: Line): Shown {
  const entry = openLine(bytes)
  if (entry !== undefined) return entry
  const message = `${file}, line ${line}, byte ${offset}: no entry. See "hostlet audit verify".`
  return { seq: undefined, at: 0, kind: 'unreadable', prev: '', hash: '', message }
}
