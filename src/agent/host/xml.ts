// Writes XML: elements, attributes and text, escaped; refuses the characters that XML has no way to say.

import { HostletError } from '../../errors.ts'

export type XmlAttributes = Readonly<Record<string, string | number | undefined>>
export type XmlChild = XmlElement | string | undefined

export interface XmlElement {
  readonly name: string
  readonly attributes: XmlAttributes
  readonly children: readonly XmlChild[]
}

/** An element; attributes and children that are `undefined` are left out, strings become text. */
export function element(name: string, attributes: XmlAttributes = {}, ...children: XmlChild[]): XmlElement {
  return { name, attributes, children }
}

/** The document as text. Throws E_BAD_REQUEST for characters that XML 1.0 forbids, which no escape can carry. */
export function renderXml(root: XmlElement): string {
  const attributes = Object.entries(root.attributes)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ` ${plainName(name)}="${escaped(String(value))}"`)
    .join('')
  const content = root.children
    .filter((child) => child !== undefined)
    .map((child) => (typeof child === 'string' ? escaped(child) : renderXml(child)))
    .join('')
  const name = plainName(root.name)
  return content === '' ? `<${name}${attributes}/>` : `<${name}${attributes}>${content}</${name}>`
}

const namePattern = /^[A-Za-z_][A-Za-z0-9_.-]*(:[A-Za-z_][A-Za-z0-9_.-]*)?$/
/** What is not in XML 1.0's production of Char, lone surrogates included. */
const forbidden = /[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/u
const escapes: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
  // As they are, a reader would turn them into a space or another line end.
  '\t': '&#9;',
  '\n': '&#10;',
  '\r': '&#13;'
}

/** Names come from our own code: a bad one is a bug, and must not become an injection. */
function plainName(name: string): string {
  if (!namePattern.test(name))
    throw new HostletError('E_INTERNAL', `not a name in XML: ${JSON.stringify(name)}`)
  return name
}

function escaped(text: string): string {
  const found = forbidden.exec(text)
  if (found) {
    const code = found[0].codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')
    throw new HostletError('E_BAD_REQUEST', `the character U+${code} cannot be written in XML: remove it`)
  }
  return text.replace(/[&<>"'\t\n\r]/g, (character) => escapes[character] ?? character)
}
