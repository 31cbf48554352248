// An erase certificate in sentences: what is gone, what remains, what is not known.

import type { EraseCertificate } from '../protocol/lifecycle.ts'
import { formatTime } from './quantities.ts'

/** Snapshots that are named; more are counted. */
const namedMax = 8

export function eraseLines(claims: EraseCertificate): string[] {
  const { vm, uuid, host, finishedAt, keys, volumes, backups } = claims
  const plain = volumes.filter(({ encrypted }) => !encrypted).map(({ name }) => name)
  const failed = volumes.filter(({ outcome }) => outcome === 'failed')
  return [
    `VM ${vm} (${uuid}) was erased on host ${host} at ${formatTime(finishedAt)}.`,
    `Keys destroyed: ${keys.filter(({ outcome }) => outcome === 'destroyed').length}. Volumes removed: ${volumes.filter(({ outcome }) => outcome === 'removed').length}.`,
    ...(plain.length === 0
      ? []
      : [`Not encrypted: ${plain.join(', ')}. Of these only the files were removed.`]),
    ...failed.map(
      ({ name, reason }) => `REMAINS: volume ${name} could not be removed: ${reason ?? 'no reason given'}`
    ),
    ...backupLines(backups)
  ]
}

function backupLines({ erased, remaining, unknown, notListed }: EraseCertificate['backups']): string[] {
  const lines = erased.length === 0 ? [] : [`Backups erased: ${erased.length}.`]
  if (remaining.length > 0) {
    const named = remaining.slice(0, namedMax).map(({ target, snapshot }) => `${target}/${snapshot}`)
    const more = remaining.length - named.length + notListed
    lines.push(
      `REMAINS: ${remaining.length + notListed} backups: ${named.join(', ')}${more > 0 ? ` and ${more} more` : ''}`
    )
  }
  return [...lines, ...unknown.map(({ target, reason }) => `NOT KNOWN: backups in ${target}: ${reason}`)]
}
