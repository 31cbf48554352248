// Opens the secrets of commands: in memory, when a step needs one, and for the VM and image that it was sealed for only.

import { HostletError } from '../../errors.ts'
import { readSealedHeader, type SealedFor } from '../../protocol/sealed-user-data.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import type { HostKey } from './host-key.ts'

export class Secrets {
  readonly #hostKey: () => Pick<HostKey, 'open' | 'publicKey'>

  constructor(hostKey: () => Pick<HostKey, 'open' | 'publicKey'>) {
    this.#hostKey = hostKey
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
    const key = this.#hostKey()
    try {
      return await key.open(jwe)
    } catch (error) {
      if (!(error instanceof HostletError)) throw error
      // The host key tells apart what is sealed for another key, and what was changed.
      throw error.code === 'E_AUTH' ? otherKey(name, header.kid, key.publicKey.kid) : changed(name, error)
    }
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

function changed(name: string, cause: HostletError): HostletError {
  return new HostletError(
    'E_AUTH',
    `the user data of VM ${name} cannot be opened: it was changed on its way, or was not sealed for this host's key. Ask anew.`,
    { cause, details: { vm: name } }
  )
}
