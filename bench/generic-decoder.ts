// The peer of the decode figure: a plain XDR decoder that interprets a table of types, value by value, as one writes it
// when the types come from a file: nothing is known about what is decoded, 64-bit integers are bigints.

import type { Buffer } from 'node:buffer'

export type Shape =
  | { readonly kind: 'int' | 'uint' | 'hyper' | 'uhyper' | 'double' }
  | { readonly kind: 'string'; readonly bytesMax: number }
  | { readonly kind: 'opaque'; readonly length: number }
  | { readonly kind: 'array'; readonly of: string; readonly countMax: number }
  | { readonly kind: 'struct'; readonly fields: readonly (readonly [name: string, type: string])[] }
  | { readonly kind: 'union'; readonly arms: Readonly<Record<number, string>> }

export type Shapes = Readonly<Record<string, Shape>>

const TEXT_BYTES_MAX = 4_194_304

/** libvirt's reply to the call for the statistics of all domains, as `remote_protocol.x` spells it. */
export const statisticsShapes: Shapes = {
  int: { kind: 'int' },
  uint: { kind: 'uint' },
  hyper: { kind: 'hyper' },
  uhyper: { kind: 'uhyper' },
  double: { kind: 'double' },
  string: { kind: 'string', bytesMax: TEXT_BYTES_MAX },
  uuid: { kind: 'opaque', length: 16 },
  parameterValue: {
    kind: 'union',
    arms: { 1: 'int', 2: 'uint', 3: 'hyper', 4: 'uhyper', 5: 'double', 6: 'int', 7: 'string' }
  },
  parameter: {
    kind: 'struct',
    fields: [
      ['field', 'string'],
      ['value', 'parameterValue']
    ]
  },
  parameters: { kind: 'array', of: 'parameter', countMax: 262_144 },
  domain: {
    kind: 'struct',
    fields: [
      ['name', 'string'],
      ['uuid', 'uuid'],
      ['id', 'int']
    ]
  },
  record: {
    kind: 'struct',
    fields: [
      ['domain', 'domain'],
      ['parameters', 'parameters']
    ]
  },
  records: { kind: 'array', of: 'record', countMax: 16_384 },
  reply: { kind: 'struct', fields: [['statistics', 'records']] }
}

/** Decodes the whole payload as the named shape. */
export function decodeGeneric(shapes: Shapes, name: string, payload: Buffer): unknown {
  const decoder = new GenericDecoder(shapes, payload)
  const value = decoder.decode(name)
  if (decoder.offset !== payload.length) throw new RangeError(`${payload.length - decoder.offset} bytes left`)
  return value
}

class GenericDecoder {
  readonly #shapes: Shapes
  readonly #payload: Buffer
  offset = 0

  constructor(shapes: Shapes, payload: Buffer) {
    this.#shapes = shapes
    this.#payload = payload
  }

  decode(name: string): unknown {
    const shape = this.#shapes[name]
    if (shape === undefined) throw new RangeError(`no shape ${name}`)
    switch (shape.kind) {
      case 'int':
        return this.#payload.readInt32BE(this.#take(4))
      case 'uint':
        return this.#payload.readUInt32BE(this.#take(4))
      case 'hyper':
        return this.#payload.readBigInt64BE(this.#take(8))
      case 'uhyper':
        return this.#payload.readBigUInt64BE(this.#take(8))
      case 'double':
        return this.#payload.readDoubleBE(this.#take(8))
      case 'string':
        return this.#bytes(this.#count(shape.bytesMax)).toString('utf8')
      case 'opaque':
        return this.#bytes(shape.length)
      case 'array':
        return this.#array(shape.of, this.#count(shape.countMax))
      case 'struct':
        return this.#struct(shape.fields)
      case 'union':
        return this.#union(shape.arms)
      default:
        return shape satisfies never
    }
  }

  #array(of: string, count: number): unknown[] {
    const values: unknown[] = []
    while (values.length < count) values.push(this.decode(of))
    return values
  }

  #struct(fields: readonly (readonly [string, string])[]): Record<string, unknown> {
    const value: Record<string, unknown> = {}
    for (const [name, type] of fields) value[name] = this.decode(type)
    return value
  }

  #union(arms: Readonly<Record<number, string>>): { type: number; value: unknown } {
    const type = this.#payload.readInt32BE(this.#take(4))
    const arm = arms[type]
    if (arm === undefined) throw new RangeError(`no arm ${type}`)
    return { type, value: this.decode(arm) }
  }

  #bytes(length: number): Buffer {
    const start = this.#take(length + (-length & 3))
    return this.#payload.subarray(start, start + length)
  }

  #count(countMax: number): number {
    const count = this.#payload.readUInt32BE(this.#take(4))
    if (count > countMax) throw new RangeError(`${count} is more than ${countMax}`)
    return count
  }

  #take(length: number): number {
    const start = this.offset
    if (start + length > this.#payload.length) throw new RangeError(`ends at ${this.#payload.length}`)
    this.offset = start + length
    return start
  }
}
