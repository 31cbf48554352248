// What domains have of the host, read from their XML and, as far as it can be read, from our metadata in it.

import { transports } from '../../protocol/vm.ts'
import { parseCpuList } from '../resources/topology.ts'
import type { DomainUse } from './inventory-port.ts'
import { find, findAll, readXml, type XmlNode } from './xml-read.ts'

type Uses = Omit<DomainUse, 'name' | 'uuid' | 'owner' | 'complete'>

export const noUses: Uses = {
  uids: [],
  macAddresses: [],
  addresses: [],
  cpus: [],
  hostPorts: [],
  files: [],
  openChains: [],
  networks: [],
  secrets: []
}

/** `xmls`: of the definition, and of the machine that runs. `metadata`: our element, whether or not it is as it should be. */
export function usesIn(xmls: readonly string[], metadata: string | null): Uses {
  const roots = xmls.map(readXml)
  const nodes = roots.flatMap(descendants)
  const claimed = metadata === null ? {} : claimsIn(metadata)
  return {
    uids: distinct([...roots.flatMap(uidsOf), ...(claimed.uids ?? [])]),
    macAddresses: distinct([
      ...nodes.flatMap(({ name, attributes }) => (name === 'mac' ? (attributes.address ?? []) : [])),
      ...(claimed.macAddresses ?? [])
    ]).map((mac) => mac.toLowerCase()),
    addresses: claimed.addresses ?? [],
    cpus: distinct([...roots.flatMap(pinsOf), ...(claimed.cpus ?? [])]),
    hostPorts: claimed.hostPorts ?? [],
    files: distinct(nodes.flatMap(filesOf)),
    openChains: openChainsOf(roots),
    networks: distinct([
      ...nodes.flatMap(({ name, attributes: { network, bridge } }) =>
        name === 'source' ? [network, bridge].filter((each) => each !== undefined) : []
      ),
      ...(claimed.networks ?? [])
    ]),
    secrets: distinct([
      ...nodes.flatMap(({ name, attributes }) => (name === 'secret' ? (attributes.uuid ?? []) : [])),
      ...(claimed.secrets ?? [])
    ])
  }
}

/** Whatever of the metadata is where it should be: also of metadata that are refused as a whole. */
function claimsIn(metadata: string): Partial<Uses> {
  const { placement, specification } = salvaged(metadata)
  const { resources } = objectOf(placement)
  const { uid, macAddress, address, network, rootKey, dataKey } = objectOf(placement)
  const { ports } = objectOf(objectOf(specification).network)
  const { pinned } = objectOf(resources)
  return {
    uids: [uid].filter(isCount),
    macAddresses: [macAddress].filter(isText),
    addresses: [address].filter(isText),
    networks: [network].filter(isText),
    secrets: [rootKey, dataKey].filter(isText),
    cpus: Array.isArray(pinned) ? pinned.flat().filter(isCount) : [],
    hostPorts: (Array.isArray(ports) ? ports : []).flatMap((port) => {
      const { hostPort, transport } = objectOf(port)
      const known = transports.find((each) => each === transport)
      return known !== undefined && isCount(hostPort) ? [{ transport: known, hostPort }] : []
    })
  }
}

function salvaged(metadata: string): Record<string, unknown> {
  try {
    return objectOf(JSON.parse(readXml(metadata).text))
  } catch {
    return {}
  }
}

function uidsOf(domain: XmlNode): number[] {
  return findAll(domain, 'seclabel').flatMap((label) => {
    const uid = /^\+?(\d+):/.exec(find(label, 'label')?.text ?? '')?.[1]
    return label.attributes.model === 'dac' && uid !== undefined ? [Number(uid)] : []
  })
}

function pinsOf(domain: XmlNode): number[] {
  return findAll(find(domain, 'cputune'), 'vcpupin').flatMap(({ attributes }) =>
    parseCpuList(attributes.cpuset ?? '')
  )
}

/** Anything that looks like a path, and volumes of pools by name. More than disks: nothing that is named is taken for free. */
function filesOf({ attributes, text }: XmlNode): string[] {
  const { volume, ...others } = attributes
  const paths = [...Object.values(others), text.trim()].filter((value) => value.startsWith('/'))
  return volume === undefined ? paths : [...paths, volume]
}

/** A disk whose element goes down to the end of its chain is told; raw ones have none. */
function openChainsOf(roots: readonly XmlNode[]): string[] {
  const disks = roots.flatMap((root) => findAll(find(root, 'devices'), 'disk'))
  const told = new Set<string>()
  const open = new Set<string>()
  for (const disk of disks) {
    const { file, dev, volume } = find(disk, 'source')?.attributes ?? {}
    const path = file ?? dev ?? volume
    if (path === undefined || disk.attributes.device === 'cdrom') continue
    const isTold = find(disk, 'driver')?.attributes.type === 'raw' || descendants(disk).some(isChainEnd)
    if (isTold) told.add(path)
    else open.add(path)
  }
  return [...open].filter((path) => !told.has(path))
}

function isChainEnd({ name, children }: XmlNode): boolean {
  return name === 'backingStore' && children.length === 0
}

function descendants(node: XmlNode): XmlNode[] {
  return [node, ...node.children.flatMap(descendants)]
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0
}

function distinct<Value>(values: readonly Value[]): Value[] {
  return [...new Set(values)]
}
