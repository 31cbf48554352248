/** libvirt's typed parameters (remote_typed_param): decoded by hand, as statistics hold tens of thousands. */
import type { XdrReader } from './reader.ts'
import { double, hyper, int, string, uhyper, uint } from './scalars.ts'
import type { Type } from './type.ts'
import { XdrError } from './xdr-error.ts'

/** libvirt's VIR_TYPED_PARAM_FIELD_LENGTH is 80, its NUL included. */
const FIELD_BYTES_MAX = 79
const STRING_BYTES_MAX = 4_194_304

/** Numbers of virTypedParameterType. */
export const parameterTypes = {
  int: 1,
  uint: 2,
  llong: 3,
  ullong: 4,
  double: 5,
  boolean: 6,
  string: 7
} as const

/** `value` is a number for integers that it holds exactly, a bigint for larger ones. */
export interface TypedParameter {
  field: string
  value: number | bigint | string | boolean
}

/** Libvirt refuses a parameter of another type than it expects, so encoding needs it stated. */
export type TypedParameterInput = { readonly field: string } & (
  | { readonly type: 'int' | 'uint' | 'double'; readonly value: number }
  | { readonly type: 'llong' | 'ullong'; readonly value: number | bigint }
  | { readonly type: 'boolean'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
)

const fieldName = string(FIELD_BYTES_MAX)
const text = string(STRING_BYTES_MAX)

export const typedParameter: Type<TypedParameter, TypedParameterInput> = {
  decode: decodeParameter,
  decodeMany: (reader, count) => {
    const parameters: TypedParameter[] = []
    try {
      while (parameters.length < count) parameters.push(decodeParameter(reader))
    } catch (error) {
      throw XdrError.within(error, parameters.length)
    }
    return parameters
  },
  encode: (writer, parameter) => {
    try {
      fieldName.encode(writer, parameter.field)
      const number = parameterTypes[parameter.type]
      if (number === undefined) writer.fail('unknown type of typed parameter')
      writer.int(number)
      const encoder = encoders[parameter.type] as Type<unknown>
      encoder.encode(writer, parameter.value)
    } catch (error) {
      throw XdrError.within(error, parameter.field)
    }
  }
}

const flag: Type<boolean> = {
  decode: (reader) => reader.int() !== 0,
  encode: (writer, value) => {
    if (typeof value !== 'boolean') writer.fail(`expected a boolean, got ${typeof value}`)
    writer.int(value ? 1 : 0)
  }
}

const encoders = { int, uint, llong: hyper, ullong: uhyper, double, boolean: flag, string: text }

function decodeParameter(reader: XdrReader): TypedParameter {
  return { field: reader.recurring.read(reader, fieldName.decode), value: decodeValue(reader) }
}

function decodeValue(reader: XdrReader): TypedParameter['value'] {
  const type = reader.int()
  switch (type) {
    case parameterTypes.int:
      return reader.int()
    case parameterTypes.uint:
      return reader.uint()
    case parameterTypes.llong:
      return reader.hyperOrNumber()
    case parameterTypes.ullong:
      return reader.uhyperOrNumber()
    case parameterTypes.double:
      return reader.double()
    case parameterTypes.boolean:
      return flag.decode(reader)
    case parameterTypes.string:
      return text.decode(reader)
    default:
      throw new XdrError(`unknown type ${type} of typed parameter`, { offset: reader.offset - 4 })
  }
}
