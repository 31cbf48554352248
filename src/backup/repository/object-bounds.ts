// Bounds that every store checks before it stores or returns an object.

import { HostletError } from '../../errors.ts'
import { objectBytesMax } from './store.ts'

/** The size of the content, in bytes. Throws E_BAD_REQUEST past the longest object. */
export function contentBytes(name: string, content: readonly Uint8Array[]): number {
  const bytes = content.reduce((sum, { length }) => sum + length, 0)
  if (bytes <= objectBytesMax) return bytes
  throw new HostletError('E_BAD_REQUEST', `${name} has ${bytes} bytes, an object at most ${objectBytesMax}`)
}

/** Where a range lies in an object of the size: shorter or empty where the object ends. */
export function clampRange(
  range: { readonly offset: number; readonly length: number },
  sizeBytes: number
): { offset: number; length: number } {
  checkLength(range.length)
  if (!Number.isSafeInteger(range.offset) || range.offset < 0)
    throw new HostletError('E_BAD_REQUEST', `an offset of ${range.offset} bytes is none`)
  const offset = Math.min(range.offset, sizeBytes)
  return { offset, length: Math.min(range.length, sizeBytes - offset) }
}

/** Throws E_BAD_REQUEST for a length that no object can have. */
export function checkLength(length: number): void {
  if (Number.isSafeInteger(length) && length >= 0 && length <= objectBytesMax) return
  throw new HostletError('E_BAD_REQUEST', `${length} bytes cannot be read at once, at most ${objectBytesMax}`)
}

/** Throws E_CORRUPT when what lies there is longer than anything that is ever stored. */
export function checkStoredSize(name: string, sizeBytes: number): void {
  if (sizeBytes <= objectBytesMax) return
  throw new HostletError(
    'E_CORRUPT',
    `${name} has ${sizeBytes} bytes, more than any object of a backup (${objectBytesMax}). It was not written by hostlet.`
  )
}

export function noSuchObject(name: string, description: string, cause?: unknown): HostletError {
  return new HostletError('E_NOT_FOUND', `${name} is not in ${description}`, { cause, details: { name } })
}

export function objectExists(name: string, description: string, cause?: unknown): HostletError {
  return new HostletError('E_CONFLICT', `${name} is already in ${description}`, { cause, details: { name } })
}
