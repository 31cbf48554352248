// What every target of a disk asks of sizes and ranges.

import { HostletError } from '../../errors.ts'

/** Writes to a file that are worth having under way at once. */
export const writesInFlightMax = 8
/** Largest disk, in bytes: 64 TiB. */
export const diskBytesMax = 2 ** 46

export function checkSize(sizeBytes: number): void {
  if (Number.isSafeInteger(sizeBytes) && sizeBytes >= 0 && sizeBytes <= diskBytesMax) return
  throw new HostletError(
    'E_BAD_REQUEST',
    `${sizeBytes} bytes are no size of a disk (at most ${diskBytesMax})`
  )
}

/** Throws E_INTERNAL when the range is not of the disk. */
export function checkRange(offset: number, length: number, sizeBytes: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && offset + length <= sizeBytes) return
  throw new HostletError('E_INTERNAL', `a write at ${offset} of ${length} bytes to a disk of ${sizeBytes}`)
}
