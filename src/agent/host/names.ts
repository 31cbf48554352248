// How the host names what it makes: volumes, seeds, the MAC of a VM; and how it tells its own from what it finds.

import { createHash } from 'node:crypto'
import type { ImageReference } from '../../protocol/vm.ts'

/** Namespace and prefix of our element in a domain's metadata: what makes a domain ours. */
export const metadataNamespace = 'https://hostlet.dev/xmlns/vm/1'
export const metadataPrefix = 'hostlet'
/** Of the element that marks a machine which stands paused for a backup. */
export const pauseNamespace = 'https://hostlet.dev/xmlns/paused/1'
export const pausePrefix = 'hostlet-paused'

/** The read-only base volume of an image. The digest is the name, so that equal images are stored once. */
export function baseVolumeName(image: Pick<ImageReference, 'sha256' | 'format'>): string {
  return image.format === 'qcow2' ? `base-${image.sha256}.qcow2` : `base-${image.sha256}.raw.img`
}

const baseName = /^base-([0-9a-f]{64})\.(qcow2|raw\.img)$/

/** The digest in the name of a base volume; undefined for any other volume. */
export function digestOfBase(volumeName: string): string | undefined {
  return baseName.exec(volumeName)?.[1]
}

/** What the names of a VM's disks begin with: the start of the UUID keeps a new VM of an old name from the old one's. */
export function shortId(vm: { name: string; uuid: string }): string {
  return `${vm.name}.${vm.uuid.slice(0, 8)}`
}

const diskName = /^(.+\.[0-9a-f]{8})\.(root|data)(\.[0-9a-f]{16}(\.scratch)?)?\.qcow2$/

/** The short id in the name of a VM's disk or scratch file; undefined for any other volume. */
export function diskOwner(volumeName: string): string | undefined {
  return diskName.exec(volumeName)?.[1]
}

export function rootVolumeName(vm: { name: string; uuid: string }): string {
  return `${shortId(vm)}.root.qcow2`
}

export function dataVolumeName(vm: { name: string; uuid: string }): string {
  return `${shortId(vm)}.data.qcow2`
}

/** A disk that takes the place of another one of the VM: beside it for a while, so by another name. */
export function restoredVolumeName(
  vm: { name: string; uuid: string },
  { token, role }: { token: string; role: string }
): string {
  return `${shortId(vm)}.${role}.${token}.qcow2`
}

/** What a backup job's own names are made of: short enough for a socket's path, and another for each snapshot. */
export function backupToken(snapshot: string): string {
  return createHash('sha256').update(snapshot).digest('hex').slice(0, 16)
}

/** The scratch file of a disk in a backup job: as a disk's name, so that it goes with its VM. */
export function scratchVolumeName(
  vm: { name: string; uuid: string },
  { token, role }: { token: string; role: string }
): string {
  return `${shortId(vm)}.${role}.${token}.scratch.qcow2`
}

/** Whether a volume is a scratch file of a backup of this VM. */
export function isScratchOf(vm: { name: string; uuid: string }, volumeName: string): boolean {
  return volumeName.endsWith('.scratch.qcow2') && diskOwner(volumeName) === shortId(vm)
}

export function backupSocketName(token: string): string {
  return `hostlet-backup-${token}.sock`
}

/** Whether a path ends in a name of `backupSocketName`. */
export function isBackupSocket(path: string): boolean {
  return /\/hostlet-backup-[0-9a-f]{16}\.sock$/.test(path)
}

/** What the secrets of a VM's scratch files are used for, as libvirt keeps it. */
export function scratchSecretUsage(vm: { uuid: string }, name = ''): string {
  return `hostlet-scratch/${vm.uuid}/${name}`
}

/** Whether a usage is one of these two. */
export function isOwnSecretUsage(usage: string): boolean {
  return /^hostlet-(scratch|disk)\//.test(usage)
}

/** What the secret of a disk's key is used for, as libvirt keeps it: no two may have the same. */
export function diskSecretUsage(keyId: string): string {
  return `hostlet-disk/${keyId}`
}

const checkpointPrefix = 'hostlet-'

/** A checkpoint's name in libvirt. */
export function checkpointName(name: string): string {
  return `${checkpointPrefix}${name}`
}

/** Our name of a checkpoint; undefined when somebody else made it. */
export function ownCheckpoint(libvirtName: string): string | undefined {
  return libvirtName.startsWith(checkpointPrefix) ? libvirtName.slice(checkpointPrefix.length) : undefined
}

/**
 * A MAC for a VM: 40 bits of the digest of its UUID after 0x52, which is locally administered and unicast. `attempt`
 * gives another one where that is taken.
 */
export function macAddressOf(uuid: string, attempt = 0): string {
  const digest = createHash('sha256').update(`${uuid} ${attempt}`).digest()
  return ['52', ...[...digest.subarray(0, 5)].map((byte) => byte.toString(16).padStart(2, '0'))].join(':')
}

/** What tells the names of a VM's own devices and networks from those of others. */
function uuidDigits(uuid: string, digits: number): string {
  return createHash('sha256').update(uuid).digest('hex').slice(0, digits)
}

/** The device on the host's side of a VM's network card: at most 15 characters may be in its name. */
export function portName(uuid: string): string {
  return `hl${uuidDigits(uuid, 12)}`
}

/** Name of the network that a VM has to itself, and device of its bridge. */
export function ownNetworkNames(
  profile: { network: string; bridge: string },
  uuid: string
): { name: string; bridge: string } {
  const digits = uuidDigits(uuid, 8)
  return { name: `${profile.network}-${digits}`, bridge: `${profile.bridge}${digits}` }
}

/** Whether a network's name is that of some VM's own under the profile. */
export function isOwnNetworkOf(profile: { network: string }, name: string): boolean {
  return (
    name.startsWith(`${profile.network}-`) && /^[0-9a-f]{8}$/.test(name.slice(profile.network.length + 1))
  )
}
