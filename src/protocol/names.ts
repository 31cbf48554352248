// The small strings that appear in every message: names, ids, digests. Patterns refuse path tricks and XML metacharacters;
// titles say in words what a pattern wants, for the error that a person reads.

import { type Static, Type } from '../lib/schema.ts'

/** A VM's name: a DNS label, so that it is also a host name, a domain name and a file name. */
export const VmName = Type.String({
  title: 'a name of lowercase letters, digits and hyphens that begins with a letter, such as web-1',
  pattern: '^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$',
  maxLength: 63
})
export type VmName = Static<typeof VmName>

export const Uuid = Type.String({
  title: 'a UUID in lowercase',
  pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
})
export type Uuid = Static<typeof Uuid>

/** A host's id: chosen by the scheduler at enrollment, part of the certificate's SPIFFE id. */
export const HostId = Type.String({
  title: 'a host id of lowercase letters, digits and hyphens',
  pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
  maxLength: 63
})
export type HostId = Static<typeof HostId>

export const CommandId = Uuid
export type CommandId = Uuid

export const VerbName = Type.String({
  title: 'a verb, such as vm.start',
  pattern: '^[a-z]+\\.[a-z][a-z-]{0,40}$',
  maxLength: 64
})

export const Sha256 = Type.String({
  title: '64 hexadecimal digits in lowercase',
  pattern: '^[0-9a-f]{64}$'
})
export type Sha256 = Static<typeof Sha256>

/** Milliseconds since the epoch. */
export const Timestamp = Type.Integer({ minimum: 0, maximum: 8_640_000_000_000_000 })
export const Milliseconds = Type.Integer({ minimum: 0, maximum: 604_800_000 })
export const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
export const Port = Type.Integer({ minimum: 1, maximum: 65_535 })

/** A sentence for people: no control characters, bounded. */
export const Sentence = Type.String({ maxLength: 4_096 })
export const ShortText = Type.String({ maxLength: 256 })
export const Ipv4 = Type.String({
  title: 'an IPv4 address',
  pattern: '^(?:[0-9]{1,3}\\.){3}[0-9]{1,3}$'
})
const octet = '(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])'
/** An IPv4 range. IPv6 is shut for VMs, so there is nothing to say about it. */
export const Cidr = Type.String({
  title: 'an IPv4 address or range, such as 203.0.113.7 or 203.0.113.0/24',
  pattern: `^(?:${octet}\\.){3}${octet}(?:/(?:3[0-2]|[12]?[0-9]))?$`
})
export const MacAddress = Type.String({
  title: 'a MAC address in lowercase, with colons',
  pattern: '^[0-9a-f]{2}(:[0-9a-f]{2}){5}$'
})
export const ProfileName = Type.String({
  title: 'a profile name of lowercase letters, digits and hyphens',
  pattern: '^[a-z][a-z0-9-]{0,30}$'
})

/** Of a file or directory on the host, as its configuration and policy name them. */
export const AbsolutePath = Type.String({
  pattern: '^/[^\\u0000]*$',
  maxLength: 1_024,
  description: 'an absolute path'
})

/** An object that refuses keys it does not know. */
export const strict = { additionalProperties: false } as const
