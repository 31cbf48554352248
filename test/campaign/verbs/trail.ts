// What the audit trail of an agent has to say once it was killed: it is whole, and tells of each command.

import { join } from 'node:path'
import { linesOf, listTrail, readSegment, trailDirectory } from '../../../src/agent/trail/segments.ts'
import { verifyTrail } from '../../../src/agent/trail/verify-trail.ts'
import { openLine } from '../../../src/lib/chain.ts'
import { hostId } from '../../support/signed-commands.ts'

/** As `hostlet audit verify` looks at it. Throws where that would tell of a fault. */
export async function requireWholeTrail(directory: string): Promise<void> {
  const { fault, strangers } = await verifyTrail({
    directory: trailDirectory(join(directory, 'state')),
    keys: [],
    hostId
  })
  if (fault !== undefined)
    throw new Error(`the audit trail is not whole: ${fault.file}:${fault.line} ${fault.message}`)
  if (strangers.length > 0) throw new Error(`strangers in the audit trail: ${strangers.join()}`)
}

/** Per command what the trail says of it, in its order: `accepted`, `begun`, `done`, `failed`. */
export function toldOf(directory: string): ReadonlyMap<string, readonly string[]> {
  const told = new Map<string, string[]>()
  for (const segment of listTrail(trailDirectory(join(directory, 'state'))).segments)
    for (const { bytes } of linesOf(segment.name, readSegment(segment))) {
      const entry = openLine(bytes)
      if (entry === undefined || typeof entry.command !== 'string') continue
      const what = String(entry.outcome ?? entry.kind.replace(/^.*\./, ''))
      told.set(entry.command, [...(told.get(entry.command) ?? []), what])
    }
  return told
}
