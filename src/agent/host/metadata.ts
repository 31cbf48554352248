// What a domain of ours carries in its metadata: everything that is needed to rebuild the inventory from libvirt alone.

import { HostletError } from '../../errors.ts'
import { Type } from '../../lib/schema.ts'
import { BackupSchedule } from '../../protocol/backup.ts'
import { Ipv4, MacAddress, strict, Uuid } from '../../protocol/names.ts'
import { compile } from '../../protocol/validate.ts'
import { VmSpecification } from '../../protocol/vm.ts'
import type { Placement, VmChange, VmDefinition } from './hypervisor.ts'
import { metadataNamespace, metadataPrefix } from './names.ts'
import { element, type XmlElement } from './xml.ts'
import { readXml } from './xml-read.ts'

const VolumeName = Type.String({ pattern: '^[a-z0-9][a-z0-9.-]{0,254}$' })

const Metadata = Type.Object(
  {
    specification: VmSpecification,
    placement: Type.Object(
      {
        uid: Type.Integer({ minimum: 1 }),
        macAddress: MacAddress,
        address: Ipv4,
        network: Type.String({ minLength: 1, maxLength: 255 }),
        rootVolume: VolumeName,
        dataVolume: Type.Union([VolumeName, Type.Null()]),
        rootKey: Type.Optional(Uuid),
        dataKey: Type.Optional(Uuid),
        rootStandsAlone: Type.Optional(Type.Literal(true)),
        trial: Type.Optional(Type.Literal(true))
      },
      strict
    ),
    /** The pool that its disks are in: agents with pools of their own leave each other's VMs alone. */
    pool: Type.String({ minLength: 1, maxLength: 255 }),
    generation: Type.Integer({ minimum: 0 }),
    wanted: Type.Enum(['running', 'stopped']),
    backupSchedule: Type.Optional(BackupSchedule)
  },
  strict
)

export interface VmMetadata {
  readonly specification: VmSpecification
  readonly placement: Placement
  readonly pool: string
  readonly generation: number
  readonly wanted: 'running' | 'stopped'
  readonly backupSchedule?: BackupSchedule
}

const check = compile(Metadata, 'metadata of the domain')

/** The element for a domain's `<metadata>`: JSON as text, so that one schema reads it back. */
export function metadataElement({
  specification,
  placement,
  pool,
  generation,
  wanted,
  backupSchedule
}: VmMetadata): XmlElement {
  const json = JSON.stringify({ specification, placement, pool, generation, wanted, backupSchedule })
  return element(`${metadataPrefix}:vm`, { [`xmlns:${metadataPrefix}`]: metadataNamespace }, json)
}

/** The same element without a prefix of its own: libvirt adds one when the metadata is written by its own call. */
export function metadataElementPlain(metadata: VmMetadata): XmlElement {
  return { ...metadataElement(metadata), name: 'vm', attributes: {} }
}

/** Marks the throw-away machine that tries the accelerator: neither a VM nor anybody else's. */
export function trialMetadataElement(): XmlElement {
  return element(`${metadataPrefix}:trial`, { [`xmlns:${metadataPrefix}`]: metadataNamespace })
}

export function isTrialMetadata(xml: string): boolean {
  return readXml(xml).name.endsWith('trial')
}

/** Reads the element back. Throws E_CORRUPT when it is ours but not what we wrote. */
export function readMetadata(xml: string, domainName: string): VmMetadata {
  try {
    return check(JSON.parse(readXml(xml).text))
  } catch (cause) {
    const fault = cause instanceof Error ? cause.message : String(cause)
    throw new HostletError(
      'E_CORRUPT',
      `the metadata of domain ${domainName} is not as hostlet wrote it (${fault}). It is left alone; look at it with "virsh metadata".`,
      { cause, details: { vm: domainName } }
    )
  }
}

export function metadataOf(definition: VmDefinition, pool: string): VmMetadata {
  const { specification, placement, generation, wanted, backupSchedule } = definition
  return { specification, placement, pool, generation, wanted, ...(backupSchedule && { backupSchedule }) }
}

/** What carries metadata, with a change to it; a schedule of null is none. */
export function changed<Carrier extends Pick<VmMetadata, 'backupSchedule'>>(
  carrier: Carrier,
  { backupSchedule: wantedSchedule, ...change }: VmChange
): Carrier {
  const { backupSchedule: before, ...rest } = carrier
  const backupSchedule = wantedSchedule === undefined ? before : wantedSchedule
  return { ...rest, ...change, ...(backupSchedule && { backupSchedule }) } as Carrier
}
