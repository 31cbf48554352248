// Changes an existing definition in what it says of sizes and limits, and leaves the rest of it as libvirt has it.

import { HostletError } from '../../errors.ts'
import { diskTargets } from './domain-xml.ts'
import { metadataElement, type VmMetadata } from './metadata.ts'
import { metadataNamespace, metadataPrefix } from './names.ts'
import { diskLimitElement, sizeElementNames, sizeElements } from './tuning-xml.ts'
import { element, renderXml, type XmlElement } from './xml.ts'
import { find, readXml, type XmlNode } from './xml-read.ts'

const ourDisks: ReadonlySet<string> = new Set(Object.values(diskTargets))

/** `source` is the definition of an existing domain, `metadata` what it is to carry. */
export function reshapedXml(source: string, metadata: VmMetadata): string {
  const domain = readXml(source)
  if (find(domain, 'metadata') === undefined)
    throw new HostletError('E_INTERNAL', 'the definition of a VM of ours has no metadata')
  const children = domain.children.filter(({ name }) => !sizeElementNames.has(name))
  return renderXml(
    element(
      domain.name,
      domain.attributes,
      ...children.map((child) => reshapedPart(child, metadata)),
      ...sizeElements(metadata)
    )
  )
}

function reshapedPart(part: XmlNode, metadata: VmMetadata): XmlElement {
  if (part.name === 'metadata') {
    const others = part.children.filter((child) => !isOurs(child)).map(asElement)
    return element(part.name, part.attributes, metadataElement(metadata), ...others)
  }
  if (part.name !== 'devices') return asElement(part)
  const devices = part.children.map((device) => reshapedDevice(device, metadata))
  return element(part.name, part.attributes, ...devices)
}

function reshapedDevice(device: XmlNode, { placement }: VmMetadata): XmlElement {
  if (!ourDisks.has(find(device, 'target')?.attributes.dev ?? '') || device.name !== 'disk')
    return asElement(device)
  const kept = device.children.filter(({ name }) => name !== 'iotune').map(asElement)
  return element('disk', device.attributes, ...kept, diskLimitElement(placement.resources?.diskLimits))
}

function isOurs({ name, attributes }: XmlNode): boolean {
  return name === `${metadataPrefix}:vm` || attributes.xmlns === metadataNamespace
}

/** libvirt's XML has text in elements without children only. */
function asElement({ name, attributes, children, text }: XmlNode): XmlElement {
  return element(name, attributes, ...(children.length > 0 ? children.map(asElement) : [text]))
}
