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

/** Files that grow by lines, of which a kill may leave a part: each write to them is an effect. */
const appended = /\/state\/(audit\/[^/]+|command-rates)\.jsonl$/

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
    if (gate !== undefined && appended.test(String(args[0]))) gateHandle(value as promises.FileHandle, gate)
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

function gateHandle(handle: promises.FileHandle, gate: Gate): void {
  const write = handle.write.bind(handle) as (bytes: Uint8Array, offset?: number) => Promise<unknown>
  const truncate = handle.truncate.bind(handle)
  const append = handle.appendFile.bind(handle)
  Object.assign(handle, {
    write: async (bytes: Uint8Array, offset = 0) => {
      await gate.living()
      // The first half of it is there before the rest: killed now, that is what stays.
      const end = gate.willDieNext() ? (offset + bytes.length) >> 1 : bytes.length
      const written = await write(bytes.subarray(0, end), offset)
      await gate.passed('write to the audit trail')
      return written
    },
    truncate: async (bytes: number) => {
      await gate.living()
      await truncate(bytes)
      await gate.passed('truncate')
    },
    appendFile: async (text: string) => {
      await gate.living()
      await append(gate.willDieNext() ? text.slice(0, text.length >> 1) : text)
      await gate.passed('append a line')
    }
  })
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
