// What a definition would become: the XML as the changes themselves would write it, in a form in which two of them compare.

import { type DomainEnvironment, diskTargets, domainXml } from './domain-xml.ts'
import { changed, metadataElement, type VmMetadata } from './metadata.ts'
import { metadataPrefix } from './names.ts'
import type { Draft, DraftChange } from './plan-port.ts'
import { reshapedXml } from './reshape-xml.ts'
import { reshaped } from './shape.ts'
import { renderXml } from './xml.ts'
import { find, readXml, type XmlNode } from './xml-read.ts'

const ourDisks: ReadonlySet<string> = new Set(Object.values(diskTargets))
const kib = 1024

export function newDraft(
  { definition }: Extract<DraftChange, { kind: 'new' }>,
  environment: DomainEnvironment
): Draft {
  return { after: canonical(withoutMedium(readXml(domainXml(definition, environment)))) }
}

export function removalDraft(source: string): Draft {
  return { before: canonical(readXml(source)) }
}

/** `source` is the definition as it is. */
export function changedDraft(
  source: string,
  metadata: VmMetadata,
  { shape, change = {}, disks }: Extract<DraftChange, { kind: 'change' }>,
  environment: DomainEnvironment
): Draft {
  const before = readXml(source)
  const carried = { ...reshaped(metadata, shape ?? {}), ...disks }
  const next = changed(carried, change)
  const plain = shape === undefined ? withMetadata(before, next) : readXml(reshapedXml(source, next))
  const swapped = disks === undefined ? plain : withDisksOf(plain, next, environment)
  return {
    before: canonical(before),
    after: canonical(inOrderOf(withCurrentMemory(swapped, before), before))
  }
}

/** The seed is taken out as soon as its guest is up. */
function withoutMedium(node: XmlNode): XmlNode {
  const isDrive = node.name === 'disk' && node.attributes.device === 'cdrom'
  const kept = isDrive ? node.children.filter(({ name }) => name !== 'source') : node.children
  return { ...node, children: kept.map(withoutMedium) }
}

function withMetadata(domain: XmlNode, metadata: VmMetadata): XmlNode {
  const ours = readXml(renderXml(metadataElement(metadata)))
  const isOurs = ({ name }: XmlNode) => name === ours.name
  return replaced(domain, 'metadata', (part) => ({
    ...part,
    children: part.children.map((child) => (isOurs(child) ? ours : child))
  }))
}

/** Files and keys of the disks as a definition made anew would name them; all else stays as libvirt has it. */
function withDisksOf(domain: XmlNode, metadata: VmMetadata, environment: DomainEnvironment): XmlNode {
  const fresh = readXml(domainXml({ ...metadata, seedPath: null }, environment))
  const disks = new Map(find(fresh, 'devices')?.children.map((disk) => [targetOf(disk), disk]))
  return replaced(domain, 'devices', (devices) => ({
    ...devices,
    children: devices.children.map((device) => {
      const other = ourDisks.has(targetOf(device)) ? disks.get(targetOf(device)) : undefined
      return other === undefined ? device : withSourceOf(device, other)
    })
  }))
}

function withSourceOf(disk: XmlNode, other: XmlNode): XmlNode {
  const isSource = ({ name }: XmlNode) => name === 'source' || name === 'backingStore'
  return {
    ...disk,
    children: [...other.children.filter(isSource), ...disk.children.filter((each) => !isSource(each))]
  }
}

/** libvirt says it beside the memory, and it is the same. */
function withCurrentMemory(domain: XmlNode, before: XmlNode): XmlNode {
  const memory = find(domain, 'memory')
  if (memory === undefined || find(before, 'currentMemory') === undefined) return domain
  const { dumpCore: _dumpCore, ...attributes } = memory.attributes
  const others = domain.children.filter(({ name }) => name !== 'currentMemory')
  return { ...domain, children: [...others, { ...memory, name: 'currentMemory', attributes }] }
}

function replaced(node: XmlNode, name: string, change: (child: XmlNode) => XmlNode): XmlNode {
  return { ...node, children: node.children.map((child) => (child.name === name ? change(child) : child)) }
}

function targetOf(device: XmlNode): string {
  return find(device, 'target')?.attributes.dev ?? ''
}

/** Elements that both have stand as in the other one; one that is new stays behind the one before it. */
function inOrderOf(node: XmlNode, other: XmlNode): XmlNode {
  const places = new Map(keyed(other.children).map(([key, child], at) => [key, { child, at }]))
  let last = -1
  const ranked = keyed(node.children).map(([key, child]) => {
    const known = places.get(key)
    last = known?.at ?? last
    return { rank: last, child: known === undefined ? child : inOrderOf(child, known.child) }
  })
  return {
    ...node,
    children: ranked.toSorted((left, right) => left.rank - right.rank).map(({ child }) => child)
  }
}

/** What an element is called among its siblings: the second of a kind is another one than the first. */
function keyed(children: readonly XmlNode[]): readonly (readonly [string, XmlNode])[] {
  const counts = new Map<string, number>()
  return children.map((child) => {
    const kind = `${child.name} ${targetOf(child)}`
    const count = (counts.get(kind) ?? 0) + 1
    counts.set(kind, count)
    return [`${kind} ${count}`, child]
  })
}

export function canonical(node: XmlNode, indent = ''): string {
  const { name } = node
  const children = inUsualOrder(node.children)
  const attributes = Object.entries(plainForm(node).attributes)
    .toSorted(([left], [right]) => (left < right ? -1 : 1))
    .map(([key, value]) => ` ${key}="${value}"`)
    .join('')
  const inner = `${indent}  `
  const text = textLines(node, inner)
  if (children.length === 0 && text.length === 0) return `${indent}<${name}${attributes}/>\n`
  if (children.length === 0 && text.length === 1)
    return `${indent}<${name}${attributes}>${text[0]}</${name}>\n`
  return [
    `${indent}<${name}${attributes}>\n`,
    ...text.map((line) => `${line}\n`),
    ...children.map((child) => canonical(child, inner)),
    `${indent}</${name}>\n`
  ].join('')
}

/** libvirt writes controllers in the order in which they came to it, and addresses behind all else. */
function inUsualOrder(children: readonly XmlNode[]): readonly XmlNode[] {
  const isAddress = ({ name }: XmlNode) => name === 'address'
  const isController = ({ name }: XmlNode) => name === 'controller'
  const controllers = children.filter(isController).toSorted((left, right) => orderOf(left) - orderOf(right))
  const sorted = children.map((child) => (isController(child) ? (controllers.shift() ?? child) : child))
  return [...sorted.filter((child) => !isAddress(child)), ...sorted.filter(isAddress)]
}

const controllerTypes = ['usb', 'sata', 'pci', 'scsi', 'virtio-serial']
const indexesMax = 1_000

function orderOf({ attributes: { type = '', index = '0' } }: XmlNode): number {
  const at = controllerTypes.indexOf(type)
  return (at < 0 ? controllerTypes.length : at) * indexesMax + Number(index)
}

/** What we keep in the metadata is JSON: a field a line. */
function textLines(node: XmlNode, indent: string): readonly string[] {
  const text = plainForm(node).text.trim()
  if (node.name !== `${metadataPrefix}:vm`) return text === '' ? [] : [text]
  try {
    return JSON.stringify(JSON.parse(text), null, 2)
      .split('\n')
      .map((line) => `${indent}${line}`)
  } catch {
    // Not as we wrote it: shown as it is.
    return [text]
  }
}

/** libvirt answers in KiB what was written in bytes, and in ranges what was a list. */
function plainForm(node: XmlNode): Pick<XmlNode, 'attributes' | 'text'> {
  const { attributes, text } = node
  if (attributes.unit === 'b')
    return { attributes: { ...attributes, unit: 'KiB' }, text: String(Number(text) / kib) }
  if (attributes.cpuset === undefined) return node
  return { attributes: { ...attributes, cpuset: rangesIn(attributes.cpuset) }, text }
}

/** `0,1,2,5` as `0-2,5`; what is no plain list stays. */
function rangesIn(list: string): string {
  if (!/^\d+(,\d+)*$/.test(list)) return list
  const ranges: [number, number][] = []
  for (const cpu of list.split(',').map(Number)) {
    const last = ranges.at(-1)
    if (last !== undefined && last[1] + 1 === cpu) last[1] = cpu
    else ranges.push([cpu, cpu])
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(',')
}
