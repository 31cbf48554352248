// Finds every declaration under src/node-libvirt/protocol, so that tests hold for those that are yet to come.

import { globSync } from 'node:fs'
import { join } from 'node:path'
import type { LibvirtEvent, Procedure } from '../../../src/node-libvirt/protocol/procedure.ts'

export interface Declared<T> {
  readonly name: string
  readonly file: string
  readonly declaration: T
}

const folder = join(import.meta.dirname, '../../../src/node-libvirt/protocol')

const exported: Declared<unknown>[] = []
for (const file of globSync('*.ts', { cwd: folder }).sort()) {
  const module: Record<string, unknown> = await import(join(folder, file))
  for (const [name, declaration] of Object.entries(module)) exported.push({ name, file, declaration })
}

export const procedures = exported.filter(isProcedure)
export const events = exported.filter(isEvent)

function isProcedure(found: Declared<unknown>): found is Declared<Procedure> {
  return isNumbered(found.declaration) && 'args' in found.declaration
}

function isEvent(found: Declared<unknown>): found is Declared<LibvirtEvent> {
  return isNumbered(found.declaration) && 'payload' in found.declaration
}

function isNumbered(value: unknown): value is { number: number } {
  return typeof value === 'object' && value !== null && 'number' in value
}
