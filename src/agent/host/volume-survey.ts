// What libvirt knows of each volume of our pool besides its sizes: format, backing file, owner, age.

import {
  type Connection,
  errorCode,
  type StoragePool,
  type StorageVolume,
  storagePoolListAllVolumes,
  storageVolGetXmlDesc
} from 'node-libvirt'
import type { Wait } from './hypervisor.ts'
import type { VolumeSurvey } from './inventory-port.ts'
import { attempt, orAbsent } from './libvirt-errors.ts'
import { find, readXml } from './xml-read.ts'

const quickMs = 10_000

export async function surveyVolumes(
  connection: Connection,
  pool: StoragePool,
  { signal }: Wait
): Promise<readonly VolumeSurvey[]> {
  const options = { signal, deadlineMs: quickMs }
  const { volumes } = await attempt('list volumes', () =>
    connection.call(storagePoolListAllVolumes, { pool, needResults: true, flags: 0 }, options)
  )
  const look = (volume: StorageVolume) =>
    orAbsent(errorCode.noStorageVolume, `look at volume ${volume.name}`, () =>
      connection.call(storageVolGetXmlDesc, { volume, flags: 0 }, options)
    )
  const found = await Promise.all(volumes.map(look))
  return found.flatMap((each) => (each === undefined ? [] : [volumeIn(each.xml)]))
}

export function volumeIn(xml: string): VolumeSurvey {
  const volume = readXml(xml)
  const target = find(volume, 'target')
  const owner = find(target, 'permissions', 'owner')?.text
  const seconds = Number(find(target, 'timestamps', 'mtime')?.text ?? Number.NaN)
  return {
    name: find(volume, 'name')?.text ?? '',
    path: find(target, 'path')?.text ?? '',
    format: find(target, 'format')?.attributes.type,
    backing: find(volume, 'backingStore', 'path')?.text,
    encrypted: find(target, 'encryption') !== undefined,
    ownerUid: owner === undefined ? undefined : Number(owner),
    changedAt: Number.isNaN(seconds) ? undefined : Math.floor(seconds * 1_000)
  }
}
