// User data of a new VM, encrypted for its host before anything is signed, written down or logged.

import { randomUUID } from 'node:crypto'
import { HostletError } from '../../errors.ts'
import type { CreateVmRequest, SeedRequest, VmSpecificationRequest } from '../../protocol/api.ts'
import { readSealedHeader, type SealedFor, sealUserData } from '../../protocol/sealed-user-data.ts'
import type { Seed, VmSpecification } from '../../protocol/vm.ts'
import type { HostRecord } from '../store/store.ts'

/**
 * The UUID of the new VM: one that its user data was sealed for by the asker, otherwise a random one. Throws E_BAD_REQUEST for
 * user data that is given twice, is no JWE, or is sealed and the host is left to choice.
 */
export function uuidFor({ specification, host }: CreateVmRequest): string {
  const { userData, userDataJwe } = specification.seed ?? {}
  if (userDataJwe === undefined) return randomUUID()
  if (userData !== undefined) throw givenTwice()
  if (host === undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      'user data that is encrypted can be opened by one host only. Name that host.'
    )
  return readSealedHeader(userDataJwe).vm
}

/** Whether the host has to be one that tells a key. */
export function needsKey({ seed }: VmSpecificationRequest): boolean {
  return seed?.userData !== undefined
}

/**
 * The specification as the host gets it. Throws E_UNSUPPORTED when the host tells no key to encrypt for, E_STALE when what is
 * encrypted is for another key.
 */
export async function sealedSpecification(
  { seed: asked, ...specification }: VmSpecificationRequest,
  uuid: string,
  host: HostRecord
): Promise<VmSpecification> {
  if (asked === undefined) return { ...specification, uuid }
  const sealedFor = { vm: uuid, image: specification.image.sha256 }
  return { ...specification, uuid, seed: await sealedSeed(asked, sealedFor, host) }
}

/** A seed as the host gets it. Throws as `sealedSpecification` does, and E_BAD_REQUEST for user data that is given twice. */
export async function sealedSeed(
  { userData: plain, userDataJwe, ...seed }: SeedRequest,
  sealedFor: SealedFor,
  host: HostRecord
): Promise<Seed> {
  if (plain === undefined && userDataJwe === undefined) return seed
  if (plain !== undefined && userDataJwe !== undefined) throw givenTwice()
  const key = host.report?.facts?.secretsKey
  if (key === undefined) throw tellsNoKey(host)
  if (userDataJwe !== undefined && readSealedHeader(userDataJwe).kid !== key.kid) throw otherKey(host)
  return { ...seed, userData: userDataJwe ?? (await sealUserData(plain ?? '', key, sealedFor)) }
}

function givenTwice(): HostletError {
  return new HostletError('E_BAD_REQUEST', 'the seed has "userData" and "userDataJwe". Give one of them.')
}

function tellsNoKey({ id, report }: HostRecord): HostletError {
  const what =
    report?.facts === undefined
      ? 'has told nothing of itself yet. Wait until its agent has connected'
      : 'tells no key to encrypt user data for. Upgrade its agent'
  return new HostletError('E_UNSUPPORTED', `host ${id} ${what}, or leave the user data out.`, {
    details: { host: id }
  })
}

function otherKey({ id }: HostRecord): HostletError {
  return new HostletError(
    'E_STALE',
    `the user data is encrypted for a key that host ${id} does not have: it was replaced, or is another host's. Read the host's facts again, and encrypt it anew.`,
    { details: { host: id } }
  )
}
