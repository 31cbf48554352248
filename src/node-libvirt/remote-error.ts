/** Turns the payload of an error reply (remote_error) into a LibvirtError. */
import { LibvirtError } from './errors.ts'
import { domain, network, optionalText } from './protocol/objects.ts'
import { decodeAll, int, optional, struct } from './xdr/schema.ts'

const remoteError = struct({
  code: int,
  domain: int,
  message: optionalText,
  level: int,
  domainObject: optional(domain),
  string1: optionalText,
  string2: optionalText,
  string3: optionalText,
  integer1: int,
  integer2: int,
  network: optional(network)
})

/** Throws XdrError if the payload is no error. */
export function decodeLibvirtError(payload: Uint8Array): LibvirtError {
  const { code, domain, level, message, string1, string2, string3 } = decodeAll(remoteError, payload)
  return new LibvirtError(message ?? `libvirt error ${code} without a message`, {
    code,
    domain,
    level,
    strings: [string1, string2, string3]
  })
}
