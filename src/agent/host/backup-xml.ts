// libvirt's XML of backup jobs and checkpoints: written for a job of ours, and read back to tell ours from others'.

import type { DiskRole } from '../../protocol/backup.ts'
import { agentChannelName, diskTargets, luksEncryption } from './domain-xml.ts'
import { isBackupSocket } from './names.ts'
import { element, renderXml, type XmlElement } from './xml.ts'
import { find, findAll, readXml, type XmlNode } from './xml-read.ts'

/** What a running domain has, as far as backups need to know. */
export interface LiveDomain {
  /** libvirt's names of all its disks, CDs included. */
  readonly targets: readonly string[]
  readonly disks: readonly LiveDisk[]
  readonly agent: 'none' | 'away' | 'connected'
}

export interface LiveDisk {
  readonly role: DiskRole
  readonly target: string
  readonly path: string
  readonly encrypted: boolean
}

export interface JobDisk {
  readonly role: DiskRole
  readonly target: string
  readonly scratchPath: string
  /** UUID of the secret that the scratch file is encrypted with; absent: it is not. */
  readonly scratchSecret?: string
}

export interface JobDescription {
  readonly targets: readonly string[]
  readonly disks: readonly JobDisk[]
  readonly socketPath: string
  /** Name of libvirt's, of the checkpoint since which changes are wanted. */
  readonly since: string | null
}

/** Name of the bitmap that a disk's export offers, where changes are wanted. */
export const exportBitmap = 'hostlet-changed'

/** CDs and whatever else is attached are left out by name: what is not named, libvirt would back up. */
export function backupXml({ targets, disks, socketPath, since }: JobDescription): string {
  const left = targets.filter((target) => !disks.some((disk) => disk.target === target))
  return renderXml(
    element(
      'domainbackup',
      { mode: 'pull' },
      since === null ? undefined : element('incremental', {}, since),
      element('server', { transport: 'unix', socket: socketPath }),
      element(
        'disks',
        {},
        ...disks.map((disk) => backupDisk(disk, since !== null)),
        ...left.map((name) => element('disk', { name, backup: 'no' }))
      )
    )
  )
}

/** A raw seed could not hold a bitmap, and a disk that is not backed up needs none. */
export function checkpointXml(
  name: string,
  { targets, disks }: Pick<JobDescription, 'targets' | 'disks'>
): string {
  const checkpointed = new Set(disks.map(({ target }) => target))
  return renderXml(
    element(
      'domaincheckpoint',
      {},
      element('name', {}, name),
      element(
        'disks',
        {},
        ...targets.map((target) =>
          element('disk', { name: target, checkpoint: checkpointed.has(target) ? 'bitmap' : 'no' })
        )
      )
    )
  )
}

function backupDisk({ role, target, scratchPath, scratchSecret }: JobDisk, incremental: boolean): XmlElement {
  const encryption = scratchSecret === undefined ? undefined : luksEncryption(scratchSecret)
  return element(
    'disk',
    {
      name: target,
      backup: 'yes',
      type: 'file',
      exportname: role,
      exportbitmap: incremental ? exportBitmap : undefined
    },
    element('driver', { type: 'qcow2' }),
    element('scratch', { file: scratchPath }, encryption)
  )
}

export function readLiveDomain(xml: string): LiveDomain {
  const devices = find(readXml(xml), 'devices')
  const disks = findAll(devices, 'disk')
  return {
    targets: disks.map(targetOf),
    disks: disks.flatMap((disk) => {
      const role = roleOf(targetOf(disk))
      const path = find(disk, 'source')?.attributes.file
      if (role === undefined || path === undefined) return []
      const encrypted =
        find(disk, 'source', 'encryption') !== undefined || find(disk, 'encryption') !== undefined
      return [{ role, target: targetOf(disk), path, encrypted }]
    }),
    agent: agentOf(devices)
  }
}

/** Whether a backup job is one that an agent of ours began: by its socket, which nobody else names so. */
export function isOurJob(jobXml: string): boolean {
  const socket = find(readXml(jobXml), 'server')?.attributes.socket
  return socket !== undefined && isBackupSocket(socket)
}

/** The name in libvirt's XML of a checkpoint; empty where there is none. */
export function checkpointNameIn(xml: string): string {
  return find(readXml(xml), 'name')?.text.trim() ?? ''
}

function agentOf(devices: XmlNode | undefined): LiveDomain['agent'] {
  const channel = findAll(devices, 'channel')
    .map((each) => find(each, 'target'))
    .find((target) => target?.attributes.name === agentChannelName)
  if (channel === undefined) return 'none'
  return channel.attributes.state === 'connected' ? 'connected' : 'away'
}

function targetOf(disk: XmlNode): string {
  return find(disk, 'target')?.attributes.dev ?? ''
}

function roleOf(target: string): DiskRole | undefined {
  if (target === diskTargets.root) return 'root'
  return target === diskTargets.data ? 'data' : undefined
}
