// The machine that a VM gets: libvirt's domain XML from a definition and what this host is like.

import { join } from 'node:path'
import type { DiskLimits } from '../../protocol/vm.ts'
import type { Cgroups } from './cgroups.ts'
import type { VmDefinition } from './hypervisor.ts'
import { metadataElement, metadataOf } from './metadata.ts'
import { baseVolumeName, portName } from './names.ts'
import { diskLimitElement, sizeElements } from './tuning-xml.ts'
import type { PoolDefinition } from './volume-xml.ts'
import { element, renderXml, type XmlChild, type XmlElement } from './xml.ts'

/** What the XML needs to know of the host. */
export interface DomainEnvironment {
  readonly accelerator: 'kvm' | 'tcg'
  readonly pool: PoolDefinition
  /** QEMU's own group: its working directories let only this group in, so a group per VM would fail. */
  readonly qemuGid: number
  /** Private directory on memory-backed storage: serial logs of VMs that ask for one, and the sockets of guests' agents. */
  readonly consoleDirectory: string
  /** Controllers of the kernel's groups that libvirt can use here; absent: taken for none. */
  readonly cgroups?: Cgroups
}

/** As guests' agents know it (libvirt formatdomain, 'channel'). */
export const agentChannelName = 'org.qemu.guest_agent.0'
const balloonStatsSeconds = 10
/** Names of a VM's disks in libvirt, by what they are for. */
export const diskTargets = { root: 'vda', data: 'vdb' } as const
const seedTarget = { dev: 'sda', bus: 'scsi' } as const

/** Throws E_BAD_REQUEST when a value cannot be written in XML. */
export function domainXml(definition: VmDefinition, environment: DomainEnvironment): string {
  const { specification: vm } = definition
  return renderXml(
    element(
      'domain',
      { type: environment.accelerator === 'kvm' ? 'kvm' : 'qemu' },
      element('name', {}, vm.name),
      element('uuid', {}, vm.uuid),
      element('metadata', {}, metadataElement(metadataOf(definition, environment.pool.name))),
      ...sizeElements(definition),
      ...machine(environment),
      devices(definition, environment),
      userLabel(definition.placement.uid, environment.qemuGid)
    )
  )
}

/** The CD drive without a medium: what the seed's drive is changed to. */
export function emptySeedDriveXml(): string {
  return renderXml(seedDrive(undefined))
}

function machine({ accelerator }: DomainEnvironment): XmlElement[] {
  return [
    element(
      'os',
      {},
      element('type', { arch: 'x86_64', machine: 'q35' }, 'hvm'),
      element('boot', { dev: 'hd' })
    ),
    element('features', {}, element('acpi'), element('apic'), element('vmport', { state: 'off' })),
    cpuModel(accelerator),
    element(
      'clock',
      { offset: 'utc' },
      element('timer', { name: 'rtc', tickpolicy: 'catchup' }),
      element('timer', { name: 'pit', tickpolicy: 'delay' }),
      element('timer', { name: 'hpet', present: 'no' })
    ),
    element('on_poweroff', {}, 'destroy'),
    element('on_reboot', {}, 'restart'),
    element('on_crash', {}, 'destroy'),
    element(
      'pm',
      {},
      element('suspend-to-mem', { enabled: 'no' }),
      element('suspend-to-disk', { enabled: 'no' })
    )
  ]
}

/** Emulated, the model is the oldest that has x86-64-v2, which today's distributions ask for. */
function cpuModel(accelerator: 'kvm' | 'tcg'): XmlElement {
  if (accelerator === 'kvm')
    return element('cpu', { mode: 'host-passthrough', check: 'none', migratable: 'on' })
  const model = element('model', { fallback: 'allow' }, 'Nehalem')
  return element('cpu', { mode: 'custom', match: 'exact', check: 'none' }, model)
}

function devices(definition: VmDefinition, environment: DomainEnvironment): XmlElement {
  const { placement, seedPath, specification } = definition
  const data = placement.dataVolume
  return element(
    'devices',
    {},
    rootDisk(definition, environment.pool.path),
    data === null
      ? undefined
      : disk(
          {
            path: join(environment.pool.path, data),
            target: diskTargets.data,
            key: placement.dataKey,
            limits: placement.resources?.diskLimits
          },
          element('backingStore')
        ),
    ...(seedPath === null
      ? []
      : [seedDrive(seedPath), element('controller', { type: 'scsi', model: 'virtio-scsi' })]),
    element('controller', { type: 'usb', model: 'none' }),
    placement.trial ? undefined : networkCard(definition),
    ...serialPort(specification.consoleLog === true ? consoleLogPath(environment, specification) : undefined),
    agentChannel(agentSocketPath(environment, specification)),
    element('video', {}, element('model', { type: 'none' })),
    element('memballoon', { model: 'virtio' }, element('stats', { period: balloonStatsSeconds })),
    element('rng', { model: 'virtio' }, element('backend', { model: 'random' }, '/dev/urandom')),
    // Tells libvirt of a kernel panic, which without it looks like a VM that runs.
    element('panic', { model: 'isa' })
  )
}

/** Names the whole chain, so that no file of the guest decides what QEMU opens. The base is never relabelled. */
function rootDisk({ specification, placement }: VmDefinition, poolPath: string): XmlElement {
  const path = join(poolPath, placement.rootVolume)
  const limits = placement.resources?.diskLimits
  const root = { path, target: diskTargets.root, key: placement.rootKey, limits }
  if (placement.rootStandsAlone) return disk(root, element('backingStore'))
  const { image } = specification
  const base = element(
    'backingStore',
    { type: 'file' },
    element('format', { type: image.format }),
    element(
      'source',
      { file: join(poolPath, baseVolumeName(image)) },
      element('seclabel', { model: 'dac', relabel: 'no' })
    ),
    element('backingStore')
  )
  return disk(root, base)
}

interface DiskSettings {
  readonly path: string
  readonly target: string
  readonly key: string | undefined
  readonly limits: DiskLimits | undefined
}

function disk({ path, target, key, limits }: DiskSettings, backing: XmlChild): XmlElement {
  const encryption = key && luksEncryption(key)
  return element(
    'disk',
    { type: 'file', device: 'disk' },
    element('driver', { name: 'qemu', type: 'qcow2', cache: 'none', discard: 'unmap' }),
    element('source', { file: path }, encryption || undefined),
    backing,
    element('target', { dev: target, bus: 'virtio' }),
    diskLimitElement(limits)
  )
}

/** Opened with a key that libvirt has been told, under its id (libvirt formatdomain, 'encryption'). */
export function luksEncryption(secretId: string): XmlElement {
  return element('encryption', { format: 'luks' }, element('secret', { type: 'passphrase', uuid: secretId }))
}

/** On virtio-scsi, since cloud kernels have no AHCI driver. Optional: memory-backed seeds are gone after a host boot. */
function seedDrive(path: string | undefined): XmlElement {
  return element(
    'disk',
    { type: 'file', device: 'cdrom' },
    element('driver', { name: 'qemu', type: 'raw' }),
    path === undefined ? undefined : element('source', { file: path, startupPolicy: 'optional' }),
    element('target', seedTarget),
    element('readonly')
  )
}

/** Isolated: the bridge passes nothing from one VM's port to another's (libvirt formatdomain, 'port isolated'). */
function networkCard({ specification, placement: { macAddress, network } }: VmDefinition): XmlElement {
  return element(
    'interface',
    { type: 'network' },
    element('mac', { address: macAddress }),
    element('source', { network }),
    // Known before it is there, so that its rules can be too.
    element('target', { dev: portName(specification.uuid) }),
    element('model', { type: 'virtio' }),
    element('port', { isolated: 'yes' })
  )
}

/** virtlogd writes the log and bounds it: 2 MiB and three older files by its own default. */
function serialPort(logPath: string | undefined): XmlElement[] {
  const log = logPath === undefined ? undefined : element('log', { file: logPath, append: 'off' })
  return [
    element('serial', { type: 'pty' }, log, element('target', { port: 0 })),
    element('console', { type: 'pty' }, element('target', { type: 'serial', port: 0 }))
  ]
}

/** To the guest's agent, which is asked to freeze and thaw file systems, and for nothing else. */
function agentChannel(path: string): XmlElement {
  return element(
    'channel',
    { type: 'unix' },
    element('source', { mode: 'bind', path }),
    element('target', { type: 'virtio', name: agentChannelName })
  )
}

/** Where libvirt would put it by itself, QEMU's whole group can speak to it; our directory lets in nobody but libvirt. */
export function agentSocketPath(
  environment: Pick<DomainEnvironment, 'consoleDirectory'>,
  vm: { uuid: string }
): string {
  return join(environment.consoleDirectory, `${vm.uuid}.agent`)
}

/** By UUID: a new VM of an old name starts with a log of its own. */
export function consoleLogPath(
  environment: Pick<DomainEnvironment, 'consoleDirectory'>,
  vm: { uuid: string }
): string {
  return join(environment.consoleDirectory, `${vm.uuid}.log`)
}

/** A user per VM, so that one QEMU that was broken out of reads nothing of another. The plus sign means a number. */
export function userLabel(uid: number, gid: number): XmlElement {
  const label = element('label', {}, `+${uid}:+${gid}`)
  return element('seclabel', { type: 'static', model: 'dac', relabel: 'yes' }, label)
}
