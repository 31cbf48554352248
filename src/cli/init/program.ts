// How this program starts itself as another user: the one that the units start, if it is there.

import type { Machine } from './machine.ts'

const installed = '/usr/bin/hostlet'

export function hostletProgram(machine: Machine): string[] {
  if (machine.exists(installed)) return [installed]
  const [, script] = process.argv
  return [process.execPath, ...(script === undefined ? [] : [script])]
}
