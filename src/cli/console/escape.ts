// The key that leaves a console: as ^] is written, and where it stands in what was typed.

import { HostletError } from '../../errors.ts'

export interface Escape {
  readonly byte: number
  /** As a person presses it: `Ctrl-]`. */
  readonly name: string
}

export const escapeDefault = '^]'

/** Reads `^]`, `^A` and so on. Throws E_BAD_REQUEST. */
export function readEscape(written: string): Escape {
  const letter = /^\^([A-Za-z\]\\^_])$/.exec(written)?.[1]?.toUpperCase()
  if (letter === undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      `"${written}" is no key to leave with: write ^ and a letter, or one of ] \\ ^ _, such as ^] or ^O.`
    )
  return { byte: letter.charCodeAt(0) & 0x1f, name: `Ctrl-${letter}` }
}

/** What is typed before the key, and whether it was pressed. */
export function untilEscape(
  keys: Buffer,
  { byte }: Escape
): { readonly typed: Buffer; readonly left: boolean } {
  const at = keys.indexOf(byte)
  return at < 0 ? { typed: keys, left: false } : { typed: keys.subarray(0, at), left: true }
}
