// Owns the wire form of libvirt's objects and of the few shapes that most procedures share.

import { type Infer, int, opaque, optional, string, struct, uint } from '../xdr/schema.ts'

import { STRING_BYTES_MAX, UUID_BYTES } from './limits.ts'

export const text = string(STRING_BYTES_MAX)
export const optionalText = optional(text)
export const uuid = opaque(UUID_BYTES)

/** `id` is QEMU's run of the domain, -1 while it is off. The server finds the domain by `uuid`. */
export const domain = struct({ name: text, uuid, id: int })
export const checkpoint = struct({ name: text, domain })
export const snapshot = struct({ name: text, domain })
export const network = struct({ name: text, uuid })
export const networkPort = struct({ network, uuid })
/** `key` identifies the volume on the whole host: for a directory pool it is the path. */
export const storageVolume = struct({ pool: text, name: text, key: text })
export const storagePool = struct({ name: text, uuid })
export const nwfilter = struct({ name: text, uuid })
export const nwfilterBinding = struct({ portDevice: text, filterName: text })
/** `usageType` is one of `secretUsageType`. */
export const secret = struct({ uuid, usageType: int, usageId: text })
export const nodeDevice = struct({ name: text })
export const networkInterface = struct({ name: text, mac: text })

export const domainOnly = struct({ domain })
export const domainFlags = struct({ domain, flags: uint })
export const xmlResult = struct({ xml: text })

export type Domain = Infer<typeof domain>
export type Checkpoint = Infer<typeof checkpoint>
export type Snapshot = Infer<typeof snapshot>
export type Network = Infer<typeof network>
export type NetworkPort = Infer<typeof networkPort>
export type StoragePool = Infer<typeof storagePool>
export type StorageVolume = Infer<typeof storageVolume>
export type Nwfilter = Infer<typeof nwfilter>
export type NwfilterBinding = Infer<typeof nwfilterBinding>
export type Secret = Infer<typeof secret>
export type NodeDevice = Infer<typeof nodeDevice>
export type NetworkInterface = Infer<typeof networkInterface>

/**
 * Marks what libvirtd may also run on its priority workers: such a call goes on while all ordinary workers
 * hang on a stuck QEMU or a stalled disk. All others wait with them.
 */
export const high = { priority: 'high' } as const
