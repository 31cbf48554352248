// The words of nft's JSON (libnftables-json(5)) that our rules are made of.

export type NftExpression = unknown
/** One statement or match of a rule. */
export type NftStatement = Readonly<Record<string, unknown>>
/** One command of a transaction: `{ add: { table: … } }`. */
export type NftCommand = { readonly add: NftObject } | { readonly delete: NftObject }
/** `{ chain: { family, table, name, … } }` */
export type NftObject = Readonly<Record<string, Readonly<Record<string, unknown>>>>

export const families = ['bridge', 'inet'] as const
export type Family = (typeof families)[number]

export const accept: NftStatement = { accept: null }
export const drop: NftStatement = { drop: null }
export const masquerade: NftStatement = { masquerade: null }
export const broadcastAddress = '255.255.255.255'

export function goto(target: string): NftStatement {
  return { goto: { target } }
}

export function meta(key: string): NftExpression {
  return { meta: { key } }
}

export function field(protocol: string, name: string): NftExpression {
  return { payload: { protocol, field: name } }
}

export function equal(left: NftExpression, right: NftExpression): NftStatement {
  return { match: { op: '==', left, right } }
}

export function unequal(left: NftExpression, right: NftExpression): NftStatement {
  return { match: { op: '!=', left, right } }
}

export function anyOf(values: readonly NftExpression[]): NftExpression {
  return values.length === 1 ? values[0] : { set: values }
}

/** `203.0.113.0/24` as an expression; a single address as it is. */
export function prefix(range: string): NftExpression {
  const [addr = range, bits = '32'] = range.split('/')
  return bits === '32' ? addr : { prefix: { addr, len: Number(bits) } }
}

export function counter(name: string): NftStatement {
  return { counter: name }
}

export function lookup(key: NftExpression, map: string): NftStatement {
  return { vmap: { key, data: `@${map}` } }
}

export function concat(...parts: readonly NftExpression[]): NftExpression {
  return { concat: parts }
}

/** States of a connection, any of them. */
export function connection(...states: readonly string[]): NftStatement {
  return {
    match: { op: 'in', left: { ct: { key: 'state' } }, right: states.length === 1 ? states[0] : states }
  }
}

/** What answers a connection that was opened from the other side. */
export const isReply: NftStatement = equal({ ct: { key: 'direction' } }, 'reply')
export const isMapped: NftStatement = { match: { op: 'in', left: { ct: { key: 'status' } }, right: 'dnat' } }
