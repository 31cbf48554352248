// The name of a VM that is to be made, before anybody is asked for it.

import { HostletError } from '../errors.ts'
import { VmName } from '../protocol/names.ts'
import { cut } from './given-names.ts'

const charactersMax = 63
const { pattern = '', title } = VmName as { pattern?: string; title?: string }

/** Throws E_BAD_REQUEST for what no VM can be called. */
export function newVmName(name: string): string {
  if (name.length <= charactersMax && new RegExp(pattern).test(name)) return name
  throw new HostletError(
    'E_BAD_REQUEST',
    `VM name "${cut(name)}" does not fit: take ${title}; ${charactersMax} characters at most.`
  )
}
