// How this program starts itself as another user: the one that the units start, if it is there.

import { isSea } from 'node:sea'
import type { Machine } from './machine.ts'

const installed = '/usr/bin/hostlet'

export function hostletProgram(machine: Machine): string[] {
  if (machine.exists(installed)) return [installed]
  const [, script] = process.argv
  return isSea() || script === undefined ? [process.execPath] : [process.execPath, script]
}
