// How the host names what it makes: volumes, seeds, the MAC of a VM; and how it tells its own from what it finds.

import { createHash } from 'node:crypto'
import type { ImageReference } from '../../protocol/vm.ts'

/** Namespace and prefix of our element in a domain's metadata: what makes a domain ours. */
export const metadataNamespace = 'https://hostlet.dev/xmlns/vm/1'
export const metadataPrefix = 'hostlet'

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

const diskName = /^(.+\.[0-9a-f]{8})\.(root|data)\.qcow2$/

/** The short id in the name of a VM's disk; undefined for any other volume. */
export function diskOwner(volumeName: string): string | undefined {
  return diskName.exec(volumeName)?.[1]
}

export function rootVolumeName(vm: { name: string; uuid: string }): string {
  return `${shortId(vm)}.root.qcow2`
}

export function dataVolumeName(vm: { name: string; uuid: string }): string {
  return `${shortId(vm)}.data.qcow2`
}

/**
 * A MAC for a VM: 40 bits of the digest of its UUID after 0x52, which is locally administered and unicast. `attempt`
 * gives another one where that is taken.
 */
export function macAddressOf(uuid: string, attempt = 0): string {
  const digest = createHash('sha256').update(`${uuid} ${attempt}`).digest()
  return ['52', ...[...digest.subarray(0, 5)].map((byte) => byte.toString(16).padStart(2, '0'))].join(':')
}
