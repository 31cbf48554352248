// The tools of these tests: names of their own, virsh as the second opinion, and cleaning up whatever happened.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { chmod, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { connect } from '../../../src/node-libvirt/connection.ts'
import { ConnectionError } from '../../../src/node-libvirt/errors.ts'
import type { TypedParameter } from '../../../src/node-libvirt/xdr/schema.ts'

const run = promisify(execFile)
const VIRSH_DEADLINE_MS = 60_000

export const mebibyte = 1_048_576
const suffix = randomBytes(3).toString('hex')

/** Every object of these tests bears this name or begins with it. */
export const ourName = `hl-t-${suffix}`
export const renamed = `${ourName}-renamed`
export const transientPool = `${ourName}-transient`
export const transientNetworks = [`${ourName}-a`, `${ourName}-b`] as const
export const secretUuid = randomUUID()
/** Interfaces of Linux have at most 15 characters. */
export const bridgeName = `hlt${suffix}`
export const tapName = `${bridgeName}t`
/** Where QEMU's user may look, as under libvirt's own pool. */
export const directory = join('/var/lib/libvirt/images', ourName)
/** A /24 that no other test here is likely to use. */
export const subnet = `10.213.${randomBytes(1)[0]}`

export async function makeDirectory(): Promise<void> {
  await mkdir(directory, { recursive: true })
  await chmod(directory, 0o777)
}

/** Output of virsh against the system's QEMU, without the blank lines around it. */
export async function virsh(...args: readonly string[]): Promise<string> {
  const { stdout } = await run('virsh', ['-q', '-c', 'qemu:///system', ...args], {
    timeout: VIRSH_DEADLINE_MS
  })
  return stdout.trim()
}

/** Why these tests cannot run on this machine, or false. */
export async function cannotRun(): Promise<string | false> {
  if (process.getuid?.() !== 0) return 'needs root: QEMU must be able to read what the tests write'
  try {
    await using _connection = await connect('qemu:///system')
    return false
  } catch (error) {
    if (error instanceof ConnectionError && error.code === 'E_UNAVAILABLE') return error.message
    throw error
  }
}

/** Removes what a failed test left: objects that are gone already are what we want. */
export async function removeEverything(): Promise<void> {
  const metadata = ['--snapshots-metadata', '--checkpoints-metadata', '--managed-save']
  const commands = [
    ['destroy', ourName],
    ['undefine', ourName, ...metadata],
    ['undefine', renamed, ...metadata],
    ...[ourName, ...transientNetworks].map((name) => ['net-destroy', name]),
    ['net-undefine', ourName],
    ['nwfilter-undefine', ourName],
    ...[ourName, transientPool].map((name) => ['pool-destroy', name]),
    ['pool-undefine', ourName],
    ['secret-undefine', secretUuid]
  ]
  for (const command of commands) await virsh(...command).catch(() => null)
  await rm(directory, { recursive: true, force: true })
}

/** Typed parameters as an object. */
export function named(parameters: readonly TypedParameter[]): Record<string, TypedParameter['value']> {
  return Object.fromEntries(parameters.map(({ field, value }) => [field, value]))
}

/** What stands between the first pair of tags of that name. */
export function elementText(xml: string, tag: string): string {
  const match = new RegExp(`<${tag}[^>]*>([^<]*)</${tag}>`).exec(xml)
  assert.ok(match, `no <${tag}> in ${xml}`)
  return match[1] ?? ''
}

export function assertIncludes(xml: string, ...parts: readonly string[]): void {
  for (const part of parts) assert.ok(xml.includes(part), `${part} is not in ${xml}`)
}
