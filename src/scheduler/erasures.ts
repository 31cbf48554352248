// Hosts' certificates of erases: who signed each is checked when it comes, and it is kept for as long as there is a scheduler.

import { asHostletError, HostletError } from '../errors.ts'
import type { Trust } from '../lib/certified-signature.ts'
import { unverifiedPayload, verifyStatement } from '../lib/statement.ts'
import type { CommandResult } from '../protocol/command.ts'
import { EraseCertificate, eraseJwsType } from '../protocol/lifecycle.ts'
import { compile } from '../protocol/validate.ts'
import type { Erasure } from './store/erase-store.ts'
import type { CommandRecord, Store } from './store/store.ts'

const read = compile(EraseCertificate, 'erase certificate')

/** The claims of a certificate that a host of the trusted CA made. Throws E_AUTH, and E_BAD_REQUEST for another form. */
export function verifyEraseCertificate(jws: string, trust: Trust): EraseCertificate {
  return verifyStatement(jws, {
    typ: eraseJwsType,
    trust,
    read,
    claimOf: ({ host, finishedAt: at }) => ({ host, at, what: 'the VM was erased' })
  })
}

/** What it says, whoever made it: for one whose signature was checked when it came. */
export function readEraseCertificate(jws: string): EraseCertificate {
  return read(unverifiedPayload(jws))
}

export interface ErasureContext {
  readonly host: string
  readonly store: Pick<Store, 'erasures' | 'backups'>
  readonly trust: Trust
  now(): number
  readonly log: { info(fields: object, text: string): void; error(fields: object, text: string): void }
}

/** The certificate in the result of a teardown. What is wrong with it is told and kept; the operation has ended all the same. */
export async function learnOfTeardown(
  record: CommandRecord,
  { outcome, value }: CommandResult,
  context: ErasureContext
): Promise<void> {
  if (record.verb !== 'vm.teardown' || outcome !== 'done' || typeof value?.certificate !== 'string') return
  const fault = (claims: EraseCertificate) =>
    claims.operation === record.id && claims.vm === record.vm && claims.uuid === record.uuid
      ? undefined
      : 'it is of another operation'
  await learnOfErasure(value.certificate, { ...context, fault })
}

/** Durable when it resolves; the same certificate told again changes nothing. */
export async function learnOfErasure(
  jws: string,
  context: ErasureContext & { fault?(claims: EraseCertificate): string | undefined }
): Promise<void> {
  const { host, store, log, now } = context
  const erasure = look(jws, context)
  if (erasure === undefined) return log.error({ host }, 'what a host sent as an erase certificate is none')
  const { claims, fault } = erasure
  const fields = { vm: claims.vm, uuid: claims.uuid, certificate: claims.id }
  if (!(await store.erasures.keep(host, erasure, now())))
    return log.error(fields, 'erase certificate about a VM of another host is left aside')
  // Told again after a crash in between: the host has no acknowledgement yet.
  if (fault === undefined) await learnOfBackups(claims, context)
  if (fault === undefined) log.info(fields, 'erase certificate kept')
  else log.error({ ...fields, fault }, 'erase certificate cannot be believed')
}

/** Undefined for what is none. */
function look(
  jws: string,
  { host, trust, fault }: ErasureContext & { fault?(claims: EraseCertificate): string | undefined }
): Erasure | undefined {
  try {
    const claims = verifyEraseCertificate(jws, trust)
    const other = claims.host === host ? fault?.(claims) : `it is of host ${claims.host}, and ${host} sent it`
    if (other !== undefined) throw new HostletError('E_AUTH', other)
    return { certificate: jws, claims, fault: undefined }
  } catch (error) {
    try {
      return {
        certificate: jws,
        claims: readEraseCertificate(jws),
        fault: asHostletError(error).message.slice(0, 4_096)
      }
    } catch {
      return undefined
    }
  }
}

async function learnOfBackups(
  { uuid, backups: { erased } }: EraseCertificate,
  { host, store, now }: ErasureContext
): Promise<void> {
  for (const [target, gone] of Map.groupBy(erased, ({ target }) => target)) {
    const snapshots = gone.map(({ snapshot }) => snapshot)
    await store.backups.learn(host, { kind: 'removed', source: uuid, target, snapshots }, now())
  }
}
