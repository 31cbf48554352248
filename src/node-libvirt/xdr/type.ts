/** Type: what every value of the XDR schema language can do, and the TypeScript types inferred from it. */
import type { Buffer } from 'node:buffer'
import { XdrReader } from './reader.ts'
import { XdrWriter } from './writer.ts'

/** `Out` is what decoding gives, `In` what encoding takes: the same except for a few wider inputs. */
export interface Type<Out, In = Out> {
  decode(reader: XdrReader): Out
  encode(writer: XdrWriter, value: In): void
  /** Decodes `count` values in a row, where a type knows a faster way than one by one. */
  decodeMany?(reader: XdrReader, count: number): Out[]
  /** Decodes piece by piece, stopping wherever a long decoding may pause; absent where there is no such place. */
  decodeSteps?(reader: XdrReader): Steps<Out>
}

/** One `next` a piece; the last gives the value. */
export type Steps<Out> = Generator<void, Out, void>

export type AnyType = Type<unknown, never>
export type Infer<T> = T extends Type<infer Out, infer _In> ? Out : never
export type InferInput<T> = T extends Type<infer _Out, infer In> ? In : never

const BOUND_MAX = 0xffff_ffff

/** Decodes the whole payload as `type`; bytes that are left over are an error. */
export function decodeAll<Out>(type: Type<Out, never>, payload: Uint8Array): Out {
  const reader = new XdrReader(payload)
  const value = type.decode(reader)
  reader.finish()
  return value
}

export function* stepsOf<Out>(type: Type<Out, never>, reader: XdrReader): Steps<Out> {
  return type.decodeSteps ? yield* type.decodeSteps(reader) : type.decode(reader)
}

/** Encodes one value, refusing more than `bytesMax` bytes. */
export function encodeAll<In>(type: Type<unknown, In>, value: In, bytesMax: number): Buffer {
  const writer = new XdrWriter({ bytesMax })
  type.encode(writer, value)
  return writer.finish()
}

/** Declarations are code: a missing bound is a mistake of their author, found when the file loads. */
export function checkBound(bound: number): void {
  if (!Number.isInteger(bound) || bound < 0 || bound > BOUND_MAX) {
    throw new RangeError(`an XDR bound must be an integer from 0 to ${BOUND_MAX}, got ${bound}`)
  }
}

/** Names a wrong value without printing text or bytes: they may be secret. */
export function describe(value: unknown): string {
  return typeof value === 'number' ? String(value) : value === null ? 'null' : typeof value
}
