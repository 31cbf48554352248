// Who is signed in, as lines for people.

import type { SessionView } from '../protocol/api.ts'
import { formatDuration, formatTime } from './quantities.ts'
import { renderFields } from './table.ts'

export function describeWho(view: SessionView, colour: boolean): readonly string[] {
  const { key, tier, owner, note, factors, id, expiresAt, idleMs, keyExpiresAt, refusedFrom } = view
  const name = [owner, note].filter((text) => text !== undefined && text !== '').join(', ')
  return renderFields(
    [
      ['key', name === '' ? key : `${key} (${name})`],
      ['tier', tier],
      ['shown', factors === 2 ? 'key and second factor' : 'key alone'],
      ['session', id ?? 'none: the key itself was shown'],
      ['ends', expiresAt === undefined ? undefined : formatTime(expiresAt)],
      ['idle', idleMs === undefined ? undefined : `${formatDuration(idleMs)} at most`],
      ['key ends', keyExpiresAt === undefined ? undefined : formatTime(keyExpiresAt)],
      ['refused', refusedFrom === undefined ? undefined : refusedText(refusedFrom)]
    ],
    colour
  )
}

function refusedText(tier: string): string {
  return `what needs tier ${tier} or more: no second factor was shown. Set one up with "hostlet key second-factor"`
}
