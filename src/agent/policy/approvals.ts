// Approvals that came with a command, checked against the keys of the host's own policy: whose counts, and why another's does not.

import type { CryptoKey } from 'jose'
import { asHostletError, HostletError } from '../../errors.ts'
import {
  ApprovalClaims,
  approvalCharactersMax,
  approvalJwsType,
  approvalLifeMsMax
} from '../../protocol/approval.ts'
import { clockSkewMsMax } from '../../protocol/command.ts'
import { compile } from '../../protocol/validate.ts'
import type { SignedCommand } from '../operations/gate.ts'
import type { Approvals, ApproverSource } from './command-sections.ts'
import { policyOwners } from './paths.ts'
import { readTrustedFile } from './trusted-file.ts'

const algorithm = 'EdDSA'
const headerKeys = ['alg', 'kid', 'typ']
const parseClaims = compile(ApprovalClaims, 'approval')
/** Refused approvals that a message tells of. */
const faultsShownMax = 3

export interface Approved {
  /** Names in the policy, each once. */
  readonly by: ReadonlySet<string>
  /** Of each approval that does not count, why. */
  readonly faults: readonly string[]
}

export interface ApprovalContext {
  readonly now: number
  /** Where the policy lies: relative trust of the key files that it names. */
  readonly policyPath: string
  /** Keys that sign commands. Whoever holds one approves nothing. */
  readonly commandKeys: readonly { readonly x: string }[]
}

/** Throws E_AUTH where the policy names a key file that cannot be believed; a bad approval only does not count. */
export async function approvedBy(
  command: SignedCommand,
  { approvers }: Approvals,
  context: ApprovalContext
): Promise<Approved> {
  const by = new Map<string, string>()
  const faults: string[] = []
  for (const jws of command.approvals) {
    try {
      const { name, key } = await approverOf(jws, command, { approvers, context })
      if ([...by].some(([other, known]) => known === key && other !== name))
        throw refused(`${name} has the key of another approver`)
      by.set(name, key)
    } catch (error) {
      const { code, message } = asHostletError(error)
      if (code !== 'E_BAD_REQUEST') throw error
      faults.push(message)
    }
  }
  return { by: new Set(by.keys()), faults }
}

/** Throws E_AUTH, with who is missing, unless each rule has as many approvals as it wants. */
export function requireApprovals(
  { claims }: SignedCommand,
  rules: Approvals['require'],
  { approvers, approved }: { readonly approvers: Approvals['approvers']; readonly approved: Approved }
): void {
  const wanting = rules
    .map(({ count, of = Object.keys(approvers) }) => {
      const names = [...new Set(of)]
      return { count, names, missing: count - names.filter((name) => approved.by.has(name)).length }
    })
    .sort((left, right) => right.missing - left.missing)
  const [most] = wanting
  if (most === undefined || most.missing <= 0) return
  const { names, missing, count } = most
  const waiting = names.filter((name) => !approved.by.has(name))
  const shown = approved.faults.slice(0, faultsShownMax).map((fault) => ` Refused: ${fault}.`)
  throw new HostletError(
    'E_AUTH',
    `the policy of host ${claims.audience} wants ${count} ${count === 1 ? 'approval' : 'approvals'} for ${claims.verb}${of(claims.subject?.vm)}, ${missing} missing: of ${waiting.join(', ')}. One of them runs "hostlet approve ${claims.id} --key FILE".${shown.join('')}`,
    { details: { reason: 'approval', approvers: waiting.join(', '), required: count, missing } }
  )
}

async function approverOf(
  jws: string,
  command: SignedCommand,
  { approvers, context }: { approvers: Approvals['approvers']; context: ApprovalContext }
): Promise<{ name: string; key: string }> {
  const claims = unverifiedClaims(jws)
  const { approver: name } = claims
  const source = Object.hasOwn(approvers, name) ? approvers[name] : undefined
  if (source === undefined) throw refused(`the policy names no approver ${name}`)
  const key = keyOf(name, source, context.policyPath)
  if (context.commandKeys.some(({ x }) => x === key))
    throw refused(`the key of ${name} is one that signs commands`)
  await verify(jws, { name, key })
  mustFit(claims, command)
  mustBeInTime(claims, context.now)
  return { name, key }
}

/** Who it says that it is of: only that person's key decides whether it is. */
function unverifiedClaims(jws: string): ApprovalClaims {
  if (jws.length > approvalCharactersMax) throw refused('an approval is too long')
  const [, payload = ''] = jws.split('.')
  try {
    return parseClaims(JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')))
  } catch {
    throw refused('what came as an approval is none')
  }
}

async function verify(jws: string, { name, key }: { name: string; key: string }): Promise<void> {
  const { compactVerify, importJWK } = await import('jose')
  const imported = (await importJWK({ kty: 'OKP', crv: 'Ed25519', x: key }, algorithm)) as CryptoKey
  const isPlain = (header: object) => Object.keys(header).every((each) => headerKeys.includes(each))
  try {
    const { protectedHeader } = await compactVerify(jws, imported, { algorithms: [algorithm] })
    if (protectedHeader.typ === approvalJwsType && isPlain(protectedHeader)) return
  } catch (cause) {
    throw refused(`the one of ${name} is not signed with the key that the policy has of ${name}`, cause)
  }
  throw refused(`what ${name} has signed is no approval`)
}

function mustFit(approval: ApprovalClaims, { claims, digest }: SignedCommand): void {
  const { approver, command, host, verb, vm } = approval
  if (command !== claims.id) throw refused(`the one of ${approver} is for command ${command}`)
  if (host !== claims.audience) throw refused(`the one of ${approver} is for host ${host}`)
  if (approval.digest !== digest || verb !== claims.verb || vm !== claims.subject?.vm)
    throw refused(`the one of ${approver} is for a command with other content`)
}

function mustBeInTime({ approver, issuedAt, expiresAt }: ApprovalClaims, now: number): void {
  if (expiresAt + clockSkewMsMax < now)
    throw refused(`the one of ${approver} expired ${Math.round((now - expiresAt) / 1_000)} s ago`)
  if (issuedAt - clockSkewMsMax > now)
    throw refused(`the one of ${approver} was made in the future: compare the clocks`)
  if (expiresAt <= issuedAt || expiresAt - issuedAt > approvalLifeMsMax)
    throw refused(`the one of ${approver} is valid for too long`)
}

/** The public key of an approver, as base64url. */
export function keyOf(name: string, { file, jwk }: ApproverSource, policyPath: string): string {
  if (file === undefined) return jwk?.x ?? ''
  const what = `the key of approver ${name}`
  const text = readTrustedFile(file, { what, owners: policyOwners(policyPath) })
  try {
    const { kty, crv, x, d } = JSON.parse(text)
    if (kty === 'OKP' && crv === 'Ed25519' && d === undefined && /^[A-Za-z0-9_-]{43}$/.test(x)) return x
  } catch {
    // Said below, without a parser's words: they repeat what they could not read.
  }
  throw new HostletError(
    'E_AUTH',
    `${file}: is not the JWK of a public Ed25519 key (${what}). "hostlet approver keygen" makes one; its public half goes here.`
  )
}

/** One that does not count; the command is refused only where it is missed. */
function refused(text: string, cause?: unknown): HostletError {
  return new HostletError('E_BAD_REQUEST', text, { cause })
}

function of(vm: string | undefined): string {
  return vm === undefined ? '' : ` of VM ${vm}`
}
