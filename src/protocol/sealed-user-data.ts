// User data on its way to a host: encrypted for the host's key, and good for one VM of one image only.

import { HostletError } from '../errors.ts'
import { type Static, Type } from '../lib/schema.ts'
import { Sha256, strict, Uuid } from './names.ts'
import { compile } from './validate.ts'
import { type SecretsKey, userDataBytesMax } from './vm.ts'

/** JWE `typ`: keeps what was encrypted for another purpose from being taken for user data. */
export const userDataJweType = 'hostlet-user-data+jwe'
export const userDataAlgorithms = { alg: 'ECDH-ES+A256KW', enc: 'A256GCM' } as const

/**
 * The protected header. It is authenticated with the content, so the text cannot be given to another VM; and since whoever
 * chooses the image chooses who reads the seed, not to another image either.
 */
export const SealedHeader = Type.Object(
  {
    alg: Type.Literal(userDataAlgorithms.alg),
    enc: Type.Literal(userDataAlgorithms.enc),
    typ: Type.Literal(userDataJweType),
    kid: Type.String({ pattern: '^[A-Za-z0-9_-]{43}$' }),
    /** UUID of the VM. */
    vm: Uuid,
    /** SHA-256 of the VM's image. */
    image: Sha256,
    epk: Type.Object(
      { kty: Type.Literal('OKP'), crv: Type.Literal('X25519'), x: Type.String({ maxLength: 64 }) },
      strict
    )
  },
  strict
)
export type SealedHeader = Static<typeof SealedHeader>
const checkHeader = compile(SealedHeader, 'header of the sealed user data')

/** Whose user data it is. */
export interface SealedFor {
  readonly vm: string
  readonly image: string
}

/** Encrypts user data as a compact JWE. Throws E_BAD_REQUEST when it is too long; what it says is in no error. */
export async function sealUserData(
  userData: string,
  key: SecretsKey,
  { vm, image }: SealedFor
): Promise<string> {
  const plain = new TextEncoder().encode(userData)
  if (plain.length > userDataBytesMax)
    throw new HostletError(
      'E_BAD_REQUEST',
      `the user data has ${plain.length} bytes, at most ${userDataBytesMax} are taken. Have the guest fetch the rest.`
    )
  const { CompactEncrypt, importJWK } = await import('jose')
  const { kty, crv, x, kid } = key
  const recipient = await importJWK({ kty, crv, x }, userDataAlgorithms.alg)
  return await new CompactEncrypt(plain)
    .setProtectedHeader({ ...userDataAlgorithms, typ: userDataJweType, kid, vm, image })
    .encrypt(recipient)
}

/**
 * The header of a compact JWE, which says for whom it is without opening it. Throws E_BAD_REQUEST for what is no user data
 * sealed by `sealUserData`.
 */
export function readSealedHeader(jwe: string): SealedHeader {
  const [header = '', ...rest] = jwe.split('.')
  if (rest.length !== 4)
    throw new HostletError(
      'E_BAD_REQUEST',
      'the user data is not encrypted: a host takes it as a compact JWE for its key only. Ask by way of "hostlet vm create", or encrypt it for the "secretsKey" of the host\'s facts.'
    )
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(header, 'base64url').toString('utf8'))
  } catch {
    // Without the cause: a parser's message repeats what it could not read.
    throw new HostletError('E_BAD_REQUEST', 'the header of the sealed user data is not JSON')
  }
  return checkHeader(value)
}
