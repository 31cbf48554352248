// The effects of agents on files: each of them passes the gate of the agent in whose directory it is.

import fs, { constants, promises } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import type { Gate } from './gate.ts'

type Any = (...args: unknown[]) => unknown

/** Of an agent's own directory, in any path below it. */
const agentDirectory = /\/agents\/([a-z0-9-]+)(?:\/|$)/
const writingFlags = constants.O_WRONLY | constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC

const effects = [
  'rename',
  'link',
  'rm',
  'unlink',
  'writeFile',
  'copyFile',
  'mkdtemp',
  'mkdir',
  'open'
] as const

/** From now on, for the whole process: before the modules of the agent are used. */
export function gateFiles(gateOf: (agent: string) => Gate | undefined): void {
  const find = (args: readonly unknown[]): Gate | undefined => {
    for (const arg of args) {
      const agent = typeof arg === 'string' ? agentDirectory.exec(arg)?.[1] : undefined
      if (agent !== undefined) return gateOf(agent)
    }
    return undefined
  }
  for (const name of effects) {
    gatePromise(name, find)
    gateSync(`${name}Sync`, find)
  }
  syncBuiltinESMExports()
}

type Find = (args: readonly unknown[]) => Gate | undefined

function gatePromise(name: (typeof effects)[number], find: Find): void {
  const original = promises[name] as Any
  const gated = async (...args: unknown[]) => {
    const gate = isEffect(name, args) ? find(args) : undefined
    await gate?.living()
    const value = await original(...args)
    await gate?.passed(`${name} ${about(args)}`)
    return value
  }
  Object.assign(promises, { [name]: gated })
}

function gateSync(name: string, find: Find): void {
  const all = fs as unknown as Record<string, Any>
  const original = all[name]
  if (original === undefined) throw new Error(`node:fs has no ${name}`)
  const gated = (...args: unknown[]) => {
    const gate = isEffect(name, args) ? find(args) : undefined
    gate?.requireLiving()
    const value = original(...args)
    gate?.passedSync(`${name} ${about(args)}`)
    return value
  }
  Object.assign(all, { [name]: gated })
}

/** A file that is opened to be read is none. */
function isEffect(name: string, [, flags]: readonly unknown[]): boolean {
  if (name !== 'open' && name !== 'openSync') return true
  if (typeof flags === 'number') return (flags & writingFlags) !== 0
  return typeof flags === 'string' && /[wa+]/.test(flags)
}

function about([path]: readonly unknown[]): string {
  return String(path).replace(/^.*\/agents\/[a-z0-9-]+\//, '')
}
