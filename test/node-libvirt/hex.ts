/** Annotated hex: bytes as people write them down, with a note behind each line. */
import { Buffer } from 'node:buffer'

/** Reads hex digits in any grouping; a `#` starts a note that lasts until the end of the line. */
export function hex(text: string): Buffer {
  const digits = text.replace(/#.*$/gm, '').replace(/\s+/g, '')
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new Error(`not hex: ${digits}`)
  return Buffer.from(digits, 'hex')
}
