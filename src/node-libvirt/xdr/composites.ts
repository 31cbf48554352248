/** XDR's arrays, pointers, structs and unions (RFC 4506), built from other types. */
import type { XdrReader } from './reader.ts'
import { int } from './scalars.ts'
import {
  type AnyType,
  checkBound,
  describe,
  type Infer,
  type InferInput,
  type Steps,
  stepsOf,
  type Type
} from './type.ts'
import type { XdrWriter } from './writer.ts'
import { XdrError } from './xdr-error.ts'

type Fields = Readonly<Record<string, AnyType>>
type Decoded<F extends Fields> = { [K in keyof F]: Infer<F[K]> }
type Encodable<F extends Fields> = { readonly [K in keyof F]: InferInput<F[K]> }

/** At most `countMax` values. */
export function array<Out, In>(of: Type<Out, In>, countMax: number): Type<Out[], readonly In[]> {
  checkBound(countMax)
  return {
    decode: (reader) => decodeMany(of, reader, reader.count(countMax, 'count')),
    decodeSteps: (reader) => elementSteps(of, reader, reader.count(countMax, 'count')),
    encode: (writer, values) => {
      checkArray(writer, values)
      if (values.length > countMax) writer.fail(`has ${values.length} elements, at most ${countMax} allowed`)
      writer.uint(values.length)
      encodeMany(of, writer, values)
    }
  }
}

/** Exactly `count` values. */
export function fixed<Out, In>(of: Type<Out, In>, count: number): Type<Out[], readonly In[]> {
  checkBound(count)
  return {
    decode: (reader) => decodeMany(of, reader, count),
    encode: (writer, values) => {
      checkArray(writer, values)
      if (values.length !== count) writer.fail(`has ${values.length} elements, must have ${count}`)
      encodeMany(of, writer, values)
    }
  }
}

/** A value or null: XDR's pointer. */
export function optional<Out, In>(of: Type<Out, In>): Type<Out | null, In | null> {
  return {
    decode: (reader) => (reader.flag('optional') ? of.decode(reader) : null),
    encode: (writer, value) => {
      writer.uint(value === null ? 0 : 1)
      if (value !== null) of.encode(writer, value)
    }
  }
}

export function struct<F extends Fields>(fields: F): Type<Decoded<F>, Encodable<F>> {
  const names = Object.keys(fields)
  const types = Object.values(fields) as Type<unknown>[]
  return {
    decode: (reader) => decodeFields(names, types, reader, {}) as Decoded<F>,
    decodeSteps: (reader) => fieldSteps(names, types, reader) as Steps<Decoded<F>>,
    encode: (writer, value) => {
      if (typeof value !== 'object' || value === null) {
        writer.fail(`expected an object, got ${describe(value)}`)
      }
      encodeFields(names, types, writer, value as Record<string, unknown>)
    }
  }
}

/** No value at all: arguments or results of procedures that have none. */
export const nothing = struct({})

type Arms = Readonly<Record<number, AnyType>>
type ArmOf<Name extends string, Tag, Value> = { [K in Name]: Tag } & Value
type UnionOut<Name extends string, A extends Arms, D> =
  | { [K in keyof A]: ArmOf<Name, K, Infer<A[K]>> }[keyof A]
  | (D extends AnyType ? ArmOf<Name, number, Infer<D>> : never)
type UnionIn<Name extends string, A extends Arms, D> =
  | { [K in keyof A]: ArmOf<Name, K, InferInput<A[K]>> }[keyof A]
  | (D extends AnyType ? ArmOf<Name, number, InferInput<D>> : never)

/**
 * One of several structs, told apart by a signed integer that decoding puts into the field
 * `discriminant` of the arm's own fields. Without `otherwise` an unknown integer is an error.
 */
export function union<Name extends string, A extends Arms, D extends AnyType | undefined = undefined>(
  discriminant: Name,
  arms: A,
  otherwise?: D
): Type<UnionOut<Name, A, D>, UnionIn<Name, A, D>> {
  const byTag = new Map(Object.entries(arms).map(([tag, arm]) => [Number(tag), arm as Type<unknown>]))
  const armOf = (tag: number) => byTag.get(tag) ?? (otherwise as Type<unknown> | undefined)
  return {
    decode: (reader) => {
      const tag = reader.int()
      const arm = armOf(tag)
      if (!arm) throw new XdrError(`unknown ${discriminant} ${tag}`, { offset: reader.offset - 4 })
      return { [discriminant]: tag, ...(arm.decode(reader) as object) } as UnionOut<Name, A, D>
    },
    encode: (writer, value) => {
      const tag = (value as Record<string, unknown>)[discriminant] as number
      const arm = armOf(tag)
      if (!arm) return writer.fail(`unknown ${discriminant} ${describe(tag)}`)
      int.encode(writer, tag)
      arm.encode(writer, value)
    }
  }
}

function decodeFields(
  names: readonly string[],
  types: readonly Type<unknown>[],
  reader: XdrReader,
  value: Record<string, unknown>
): Record<string, unknown> {
  let index = 0
  try {
    for (; index < types.length; index++) {
      value[names[index] as string] = (types[index] as Type<unknown>).decode(reader)
    }
  } catch (error) {
    throw XdrError.within(error, names[index] as string)
  }
  return value
}

/** As `decodeFields`, which is faster where nothing can pause. */
function* fieldSteps(
  names: readonly string[],
  types: readonly Type<unknown>[],
  reader: XdrReader
): Steps<Record<string, unknown>> {
  const value: Record<string, unknown> = {}
  for (const [index, name] of names.entries()) {
    try {
      value[name] = yield* stepsOf(types[index] as Type<unknown>, reader)
    } catch (error) {
      throw XdrError.within(error, name)
    }
  }
  return value
}

function encodeFields(
  names: readonly string[],
  types: readonly Type<unknown>[],
  writer: XdrWriter,
  value: Record<string, unknown>
): void {
  let index = 0
  try {
    for (; index < types.length; index++) {
      ;(types[index] as Type<unknown>).encode(writer, value[names[index] as string])
    }
  } catch (error) {
    throw XdrError.within(error, names[index] as string)
  }
}

function decodeMany<Out>(of: Type<Out, never>, reader: XdrReader, count: number): Out[] {
  if (of.decodeMany) return of.decodeMany(reader, count)
  const values: Out[] = []
  try {
    // Grown as elements arrive: a count alone must not allocate.
    while (values.length < count) values.push(of.decode(reader))
  } catch (error) {
    throw XdrError.within(error, values.length)
  }
  return values
}

/** A pause may come after each element, never within one. */
function* elementSteps<Out>(of: Type<Out, never>, reader: XdrReader, count: number): Steps<Out[]> {
  const values: Out[] = []
  while (values.length < count) {
    try {
      values.push(of.decode(reader))
    } catch (error) {
      throw XdrError.within(error, values.length)
    }
    yield
  }
  return values
}

function encodeMany<In>(of: Type<unknown, In>, writer: XdrWriter, values: readonly In[]): void {
  let index = 0
  try {
    for (const value of values) {
      of.encode(writer, value)
      index++
    }
  } catch (error) {
    throw XdrError.within(error, index)
  }
}

function checkArray(writer: XdrWriter, value: readonly unknown[]): void {
  if (!Array.isArray(value)) writer.fail(`expected an array, got ${describe(value)}`)
}
