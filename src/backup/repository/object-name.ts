// What objects of a repository may be called: names that mean the same in a directory and at any S3 service.

import { HostletError } from '../../errors.ts'

/** Longest name, in characters; S3 allows 1,024 bytes with the prefix. */
export const nameCharactersMax = 512
/** Longest segment, in characters; file systems allow 255 bytes. */
export const segmentCharactersMax = 200
export const segmentsMax = 16

const segmentPattern = /^[A-Za-z0-9._-]+$/

export function isSegment(text: string): boolean {
  return segmentPattern.test(text) && text !== '.' && text !== '..' && text.length <= segmentCharactersMax
}

export function isObjectName(text: string): boolean {
  const segments = text.split('/')
  return text.length <= nameCharactersMax && segments.length <= segmentsMax && segments.every(isSegment)
}

/** The segments of a name. Throws E_BAD_REQUEST for what is no name. */
export function segmentsOf(name: string): string[] {
  if (isObjectName(name)) return name.split('/')
  throw new HostletError(
    'E_BAD_REQUEST',
    `${JSON.stringify(name.slice(0, nameCharactersMax))} is no name of an object: segments of letters, digits, ".", "_" and "-", joined by slashes`
  )
}

/** A prefix as the folder that it lies in and the beginning of the name there. Throws E_BAD_REQUEST. */
export function splitPrefix(prefix: string): { folder: string[]; beginning: string } {
  const slash = prefix.lastIndexOf('/')
  const beginning = prefix.slice(slash + 1)
  const folder = slash < 0 ? [] : segmentsOf(prefix.slice(0, slash))
  // A beginning is checked as if a letter followed, so that "." (of ".x") passes.
  if (beginning !== '' && !isSegment(`${beginning}x`)) segmentsOf(prefix)
  return { folder, beginning }
}
