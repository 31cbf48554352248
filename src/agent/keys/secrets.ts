// Opens the secrets of commands: in memory, when a step needs one, and for the VM and image that it was sealed for only.

import { HostletError } from '../../errors.ts'
import { readSealedHeader, type SealedFor, userDataAlgorithms } from '../../protocol/sealed-user-data.ts'
import type { SecretsKey, VmSpecification } from '../../protocol/vm.ts'
import { type PrivateKey, publicHalf } from '../backups/host-key.ts'

export class Secrets {
  readonly #ensureKey: () => Promise<PrivateKey>
  #key: Promise<PrivateKey> | undefined

  /** @param ensureKey reads the host's key, and makes it where there is none. */
  constructor(ensureKey: () => Promise<PrivateKey>) {
    this.#ensureKey = ensureKey
  }

  /** What the scheduler is told. Throws what reading the key throws; the next call tries again. */
  async publicKey(): Promise<SecretsKey> {
    return publicHalf(await this.#read())
  }

  /**
   * The user data of a specification, undefined where it has none. Throws E_BAD_REQUEST for what is not sealed, or sealed for
   * another VM or image, E_STALE when it is for a key that the host does not have (any more), E_AUTH when it was changed.
   */
  async userDataOf({ name, uuid, image, seed }: VmSpecification): Promise<string | undefined> {
    const jwe = seed?.userData
    if (jwe === undefined) return undefined
    const header = readSealedHeader(jwe)
    const wanted: SealedFor = { vm: uuid, image: image.sha256 }
    for (const what of ['vm', 'image'] as const) {
      if (header[what] !== wanted[what]) throw sealedForOther(name, what)
    }
    const key = await this.#read()
    if (header.kid !== key.kid) throw otherKey(name, header.kid, key.kid)
    return await decrypt(jwe, key, name)
  }

  #read(): Promise<PrivateKey> {
    this.#key ??= this.#ensureKey().catch((error: unknown) => {
      this.#key = undefined
      throw error
    })
    return this.#key
  }
}

async function decrypt(jwe: string, { kty, crv, x, d }: PrivateKey, name: string): Promise<string> {
  const { alg, enc } = userDataAlgorithms
  // Loaded with the first secret: an idle agent does without it.
  const { compactDecrypt, importJWK } = await import('jose')
  const recipient = await importJWK({ kty, crv, x, d }, alg)
  const options = { keyManagementAlgorithms: [alg], contentEncryptionAlgorithms: [enc] }
  let plaintext: Uint8Array
  try {
    ;({ plaintext } = await compactDecrypt(jwe, recipient, options))
  } catch (cause) {
    throw new HostletError(
      'E_AUTH',
      `the user data of VM ${name} cannot be opened: it was changed on its way, or was not sealed for this host's key. Ask anew.`,
      { cause, details: { vm: name } }
    )
  }
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(plaintext)
  } catch {
    throw new HostletError('E_BAD_REQUEST', `the user data of VM ${name} is not UTF-8`)
  } finally {
    plaintext.fill(0)
  }
}

function sealedForOther(name: string, what: keyof SealedFor): HostletError {
  return new HostletError(
    'E_BAD_REQUEST',
    `the user data of VM ${name} was sealed for another ${what === 'vm' ? 'VM' : 'image'}. Seal it anew: it is good for one VM of one image.`,
    { details: { vm: name } }
  )
}

function otherKey(name: string, given: string, own: string): HostletError {
  return new HostletError(
    'E_STALE',
    `the user data of VM ${name} is sealed for key ${given}, this host has ${own}: its key was replaced, or it is meant for another host. Read the host's facts again ("hostlet host refresh"), and ask anew.`,
    { details: { vm: name, given, own } }
  )
}
