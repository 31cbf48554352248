/** The XDR schema language in one place: what declarations of the protocol import. */
export { charArray, chars } from './char-arrays.ts'
export { array, fixed, nothing, optional, struct, union } from './composites.ts'
export {
  bool,
  bytes,
  char,
  double,
  float,
  hyper,
  int,
  opaque,
  string,
  uchar,
  uhyper,
  uint,
  ushort
} from './scalars.ts'
export { type AnyType, decodeAll, encodeAll, type Infer, type InferInput, type Type } from './type.ts'
export {
  parameterTypes,
  type TypedParameter,
  type TypedParameterInput,
  typedParameter
} from './typed-parameter.ts'
export { XdrError } from './xdr-error.ts'
