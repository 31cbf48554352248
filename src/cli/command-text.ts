// A signed command in words, for whoever is to sign it too: out of its signed payload, and of nothing that anybody says of it.

import { createHash } from 'node:crypto'
import { HostletError } from '../errors.ts'
import { CommandClaims } from '../protocol/command.ts'
import { compile } from '../protocol/validate.ts'
import { formatDuration, formatTime } from './quantities.ts'

const parseClaims = compile(CommandClaims, 'command')

export interface ReadCommand {
  readonly claims: CommandClaims
  /** SHA-256 of the signed payload, in hex. */
  readonly digest: string
}

/** Throws E_PROTOCOL for what is no command. */
export function readCommand(jws: string): ReadCommand {
  const payload = Buffer.from(jws.split('.')[1] ?? '', 'base64url')
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(payload)
    const claims = parseClaims(JSON.parse(text))
    return { claims, digest: createHash('sha256').update(payload).digest('hex') }
  } catch (cause) {
    throw new HostletError(
      'E_PROTOCOL',
      'what the scheduler answered with is no command. Approve nothing, and compare "hostlet version" with the scheduler’s.',
      { cause }
    )
  }
}

export function commandFields(
  { claims, digest }: ReadCommand,
  nowMs: number
): readonly (readonly [string, string | undefined])[] {
  const { id, verb, audience, subject, issuedAt, expiresAt } = claims
  const { vm: _named, ...rest } = claims.arguments
  const leftMs = expiresAt - nowMs
  return [
    ['what', sentenceOf(claims)],
    ['operation', id],
    ['verb', verb],
    ['VM', subject && `${subject.vm} (${subject.uuid}, generation ${subject.generation})`],
    ['host', audience],
    ['arguments', JSON.stringify(rest)],
    ['asked for', formatTime(issuedAt)],
    [
      'expires',
      `${formatTime(expiresAt)} (${leftMs > 0 ? `in ${formatDuration(leftMs)}` : 'it has expired'})`
    ],
    ['digest', digest]
  ]
}

/** What becomes of the VM, in a sentence. */
export function sentenceOf(claims: CommandClaims): string {
  const write = sentences[claims.verb]
  return write === undefined ? `${claims.verb} on host ${claims.audience}` : write(claims)
}

const sentences: Readonly<Record<string, (claims: CommandClaims) => string>> = {
  'vm.teardown': ({ subject, arguments: { retainDays, backups } }) =>
    typeof retainDays === 'number'
      ? `switches VM ${subject?.vm} off, and erases it in ${retainDays} days${backups === true ? ', with all its backups' : ''}`
      : `erases VM ${subject?.vm} at once: its disks and keys are gone for good${backups === true ? ', and all its backups' : ''}`,
  'vm.erase': ({ subject }) => `erases VM ${subject?.vm}, which was torn down before, for good`,
  'vm.reimage': ({ subject }) =>
    `replaces the root disk of VM ${subject?.vm}: what is on it is gone for good`,
  'vm.rekey': ({ subject }) =>
    `gives the disks of VM ${subject?.vm} new passphrases, and destroys the old ones`,
  'vm.restore': ({ subject, arguments: { replace } }) =>
    replace === true
      ? `replaces the disks of VM ${subject?.vm} by those of a backup: what they hold now is gone for good`
      : `makes VM ${subject?.vm} of a backup`,
  'vm.backup-schedule': ({ subject, arguments: { schedule } }) =>
    schedule === null
      ? `has VM ${subject?.vm} backed up no more`
      : `changes when VM ${subject?.vm} is backed up, and which of its backups are kept`,
  'vm.provision': ({ subject }) => `makes VM ${subject?.vm}`,
  'vm.stop': ({ subject }) => `switches VM ${subject?.vm} off`,
  'backup.prune': ({ arguments: { source, target, dryRun } }) =>
    dryRun === true
      ? `tells which backups of VM ${String(source)} would be removed`
      : `removes backups of VM ${String(source)} from ${String(target)} for good`
}
