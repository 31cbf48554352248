// Whose a domain is: ours by the metadata it carries, or somebody else's. What claims to be ours and cannot be is quarantined.

import { HostletError } from '../../errors.ts'
import type { ForeignDomain } from '../../protocol/vm.ts'
import { isTrialMetadata, readMetadata, type VmMetadata } from './metadata.ts'

/** A domain as libvirt lists it, with our element of its metadata; null where it has none. */
export interface SeenDomain {
  readonly name: string
  readonly uuid: string
  /** As in the record of a VM. */
  readonly run: number | null
  readonly metadata: string | null
}

export type ForeignReason = NonNullable<ForeignDomain['reason']>

/** What there is to know of a domain: ours with its metadata, somebody else's, or one of our throw-away ones. */
export type Look =
  | { readonly kind: 'ours'; readonly metadata: VmMetadata }
  | { readonly kind: 'foreign'; readonly reason: ForeignReason; readonly detail: string }
  | { readonly kind: 'trial' }

const detailCharactersMax = 512

/** One domain by itself: metadata that cannot be read, or are of another one, make it foreign. Not understood is not touched. */
export function lookAt({ name, uuid, metadata: xml }: SeenDomain, pool: string): Look {
  if (xml === null) return foreign('other', "carries nothing of hostlet's")
  try {
    if (isTrialMetadata(xml)) return { kind: 'trial' }
    const metadata = readMetadata(xml, name)
    return whoseIs({ name, uuid }, metadata, pool) ?? { kind: 'ours', metadata }
  } catch (error) {
    if (error instanceof HostletError && (error.code === 'E_CORRUPT' || error.code === 'E_PROTOCOL'))
      return foreign('unreadable', error.message)
    throw error
  }
}

/**
 * All domains of the host beside each other: no two VMs have the same user, MAC or address. Of two that claim one, the VM
 * stays ours that this agent knew before; failing that the one that runs longer; failing that the lower UUID.
 */
export function judge(
  domains: readonly SeenDomain[],
  { pool, known }: { pool: string; known: ReadonlySet<string> }
): ReadonlyMap<string, Look> {
  const looks = new Map(domains.map((domain) => [domain.uuid, lookAt(domain, pool)] as const))
  const held = new Map<string, string>()
  for (const { uuid, name } of [...domains].sort((left, right) => rank(left, right, known))) {
    const look = looks.get(uuid)
    if (look?.kind !== 'ours') continue
    const claims = claimsOf(look.metadata)
    const taken = claims.find((claim) => held.has(claim))
    if (taken === undefined) for (const claim of claims) held.set(claim, name)
    else looks.set(uuid, duplicate(taken, held.get(taken) ?? ''))
  }
  return looks
}

function whoseIs(
  domain: { name: string; uuid: string },
  { specification, pool: theirs }: VmMetadata,
  pool: string
): Look | undefined {
  if (theirs !== pool)
    return foreign('other-pool', `its disks are in pool ${theirs}, which another agent looks after`)
  if (specification.uuid !== domain.uuid)
    return foreign(
      'copied',
      `it carries the metadata of VM ${specification.name} (${specification.uuid}), as a copy does. Take them out with "virsh metadata ${domain.name} --uri https://hostlet.dev/xmlns/vm/1 --remove --config" if it is to stay.`
    )
  if (specification.name !== domain.name)
    return foreign(
      'renamed',
      `it is VM ${specification.name} under another name. Have it back with "virsh domrename ${domain.name} ${specification.name}".`
    )
  return undefined
}

function claimsOf({ placement: { uid, macAddress, address, network } }: VmMetadata): string[] {
  return [`user ${uid}`, `MAC ${macAddress}`, `address ${address} of ${network}`]
}

function duplicate(claim: string, holder: string): Look {
  return foreign(
    'duplicate',
    `it has ${claim}, which is that of VM ${holder}. Undefine the one that should not be here.`
  )
}

function foreign(reason: ForeignReason, detail: string): Look {
  return { kind: 'foreign', reason, detail: detail.slice(0, detailCharactersMax) }
}

function rank(left: SeenDomain, right: SeenDomain, known: ReadonlySet<string>): number {
  const order = (domain: SeenDomain) => [
    known.has(domain.uuid) ? 0 : 1,
    domain.run ?? Number.POSITIVE_INFINITY
  ]
  const [knownLeft = 0, runLeft = 0] = order(left)
  const [knownRight = 0, runRight = 0] = order(right)
  if (knownLeft !== knownRight) return knownLeft - knownRight
  if (runLeft !== runRight) return runLeft < runRight ? -1 : 1
  return left.uuid < right.uuid ? -1 : 1
}
