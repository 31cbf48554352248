// Reads libvirt's XML into a plain tree, with bounds on size, depth and number of elements.

import { SaxesParser } from 'saxes'
import { HostletError } from '../../errors.ts'

export const xmlCharactersMax = 4 * 1024 * 1024
export const xmlDepthMax = 64
export const xmlElementsMax = 200_000

export interface XmlNode {
  readonly name: string
  readonly attributes: Readonly<Record<string, string>>
  readonly children: readonly XmlNode[]
  /** The text directly inside, that of the children left out. */
  readonly text: string
}

interface OpenNode extends XmlNode {
  children: OpenNode[]
  text: string
}

/** Reads a whole document. Throws E_PROTOCOL with the line and column of what is wrong. */
export function readXml(source: string): XmlNode {
  if (source.length > xmlCharactersMax) throw fault(`longer than ${xmlCharactersMax} characters`)
  const stack: OpenNode[] = []
  let root: OpenNode | undefined
  let elements = 0
  const parser = new SaxesParser()
  parser.on('error', (error) => {
    throw fault(error.message)
  })
  parser.on('opentag', (tag) => {
    if (++elements > xmlElementsMax || stack.length >= xmlDepthMax) throw fault('too large or too deep')
    const node: OpenNode = { name: tag.name, attributes: tag.attributes, children: [], text: '' }
    stack.at(-1)?.children.push(node)
    root ??= node
    stack.push(node)
  })
  parser.on('closetag', () => {
    stack.pop()
  })
  const append = (text: string) => {
    const node = stack.at(-1)
    if (node) node.text += text
  }
  parser.on('text', append)
  parser.on('cdata', append)
  parser.write(source).close()
  if (root === undefined) throw fault('no element in it')
  return root
}

/** The first element along a path of names below a node, e.g. `find(domain, 'devices', 'emulator')`. */
export function find(node: XmlNode | undefined, ...path: readonly string[]): XmlNode | undefined {
  return path.reduce<XmlNode | undefined>(
    (parent, name) => parent?.children.find((child) => child.name === name),
    node
  )
}

export function findAll(node: XmlNode | undefined, name: string): readonly XmlNode[] {
  return node?.children.filter((child) => child.name === name) ?? []
}

function fault(text: string): HostletError {
  return new HostletError('E_PROTOCOL', `XML of libvirt: ${text}`)
}
