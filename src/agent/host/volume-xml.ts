// libvirt's XML of the pool and of the volumes in it.

import { HostletError } from '../../errors.ts'
import { element, renderXml, type XmlElement } from './xml.ts'
import { find, readXml } from './xml-read.ts'

export interface PoolDefinition {
  readonly name: string
  readonly path: string
}

/** Passed through by QEMU's users, listed and written by root only. */
export function poolXml({ name, path }: PoolDefinition): string {
  return renderXml(
    element(
      'pool',
      { type: 'dir' },
      element('name', {}, name),
      element('target', {}, element('path', {}, path), permissions('0711'))
    )
  )
}

/** Refuses a pool of our name that is not ours. Throws E_CONFLICT. */
export function requireSamePool(xml: string, wanted: PoolDefinition): void {
  const found = readXml(xml)
  const path = find(found, 'target', 'path')?.text
  if (found.attributes.type === 'dir' && path === wanted.path) return
  throw new HostletError(
    'E_CONFLICT',
    `pool ${wanted.name} exists with type ${found.attributes.type} and path ${path}, the configuration wants the directory ${wanted.path}. Give pool.name another name, or set pool.path to that directory.`,
    { details: { pool: wanted.name } }
  )
}

/** A read-only file for an upload, sparse until written. Raw to libvirt, whatever is in it: it stores bytes. */
export function baseVolumeXml({ name, sizeBytes }: { name: string; sizeBytes: number }): string {
  return volumeXml({ name, capacityBytes: sizeBytes, target: [format('raw'), permissions('0444')] })
}

/** A file for an upload that only its owner reads, until libvirt hands it to a QEMU. */
export function privateVolumeXml({ name, sizeBytes }: { name: string; sizeBytes: number }): string {
  return volumeXml({ name, capacityBytes: sizeBytes, target: [format('raw'), permissions('0600')] })
}

/** An empty file that another user than libvirt's will fill. */
export function ownedVolumeXml({ name, uid, gid }: { name: string; uid: number; gid: number }): string {
  return volumeXml({ name, capacityBytes: 0, target: [format('raw'), permissions('0600', { uid, gid })] })
}

/** Compat 1.1, since libvirt's default of 0.10 cannot hold the bitmaps that backups need. */
export function diskVolumeXml(volume: {
  name: string
  capacityBytes: number
  backing?: { path: string; format: string }
}): string {
  const { name, capacityBytes, backing } = volume
  const target = [format('qcow2'), permissions('0600'), element('compat', {}, '1.1')]
  const store =
    backing && element('backingStore', {}, element('path', {}, backing.path), format(backing.format))
  return volumeXml({ name, capacityBytes, target, ...(store && { store }) })
}

function volumeXml(volume: {
  name: string
  capacityBytes: number
  target: XmlElement[]
  store?: XmlElement
}): string {
  return renderXml(
    element(
      'volume',
      {},
      element('name', {}, volume.name),
      element('capacity', { unit: 'bytes' }, String(volume.capacityBytes)),
      element('allocation', { unit: 'bytes' }, '0'),
      element('target', {}, ...volume.target),
      volume.store
    )
  )
}

function format(type: string): XmlElement {
  return element('format', { type })
}

function permissions(mode: string, { uid, gid } = { uid: 0, gid: 0 }): XmlElement {
  return element(
    'permissions',
    {},
    element('mode', {}, mode),
    element('owner', {}, String(uid)),
    element('group', {}, String(gid))
  )
}
