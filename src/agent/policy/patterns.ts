// Names in which * stands for any characters: of VMs and of verbs.

import { Type } from '../../lib/schema.ts'

const VmPattern = Type.String({
  pattern: '^[a-z0-9*]([a-z0-9*-]{0,62})$',
  description: 'the name of a VM in which * stands for any characters, or its UUID'
})
export const VmPatterns = Type.Array(VmPattern, { minItems: 1, maxItems: 256 })

const VerbPattern = Type.String({
  pattern: '^([a-z]+\\.[a-z*-]{1,41}|\\*)$',
  description: 'a verb such as vm.teardown, a group such as backup.*, or *'
})
export const VerbPatterns = Type.Array(VerbPattern, { minItems: 1, maxItems: 64 })

/** A VM as far as a command tells of it. */
export interface NamedVm {
  readonly name?: string | undefined
  readonly uuid?: string | undefined
}

export function fitsVm(pattern: string, { name, uuid }: NamedVm): boolean {
  return pattern === uuid || (name !== undefined && fits(pattern, name))
}

/** Part by part from the left, each where it first fits: no pattern takes longer than its length times the text's. */
export function fits(pattern: string, text: string): boolean {
  const [first = '', ...rest] = pattern.split('*')
  const last = rest.pop()
  if (last === undefined) return pattern === text
  if (!text.startsWith(first) || !text.endsWith(last)) return false
  let at = first.length
  for (const part of rest) {
    const found = text.indexOf(part, at)
    if (found === -1) return false
    at = found + part.length
  }
  return at <= text.length - last.length
}
