// What makes a store a repository of backups: one small object at its top that says whose it is and how it is written.

import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { HostletError } from '../../errors.ts'
import { systemClock } from '../../lib/clock.ts'
import type { Wait } from '../disk.ts'
import { acquireLock } from './lock.ts'
import type { ObjectStore } from './store.ts'

export const repositoryObject = 'hostlet-repository.json'
export const repositoryFormat = 1
/** What a store may hold before it is a repository: leases and probes of agents that make it at this moment. */
const passingPrefixes = ['locks/', 'probes/']
const lockWaitMs = 60_000
const documentBytesMax = 4_096
const idPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

export interface Repository {
  readonly id: string
  readonly format: 1
}

/**
 * The repository in the store; where there is none it is made, unless `create` is false (E_NOT_FOUND then: for who has used
 * this repository before, since the mount of a directory may be missing). Throws E_CONFLICT when the store holds something
 * else, E_UNSUPPORTED for a newer format, E_CORRUPT for a description that is not ours.
 */
export async function ensureRepository(
  store: ObjectStore,
  wait: Wait & { readonly create?: boolean }
): Promise<Repository> {
  const found = await readRepository(store, wait)
  if (found !== undefined) return found
  if (wait.create === false)
    throw new HostletError(
      'E_NOT_FOUND',
      `${store.description} holds no backups of hostlet. Check its address, and that it is mounted.`,
      { details: { repository: store.description } }
    )
  await mustBeEmpty(store, wait)
  return await makeRepository(store, wait)
}

async function readRepository(store: ObjectStore, wait: Wait): Promise<Repository | undefined> {
  try {
    const range = { offset: 0, length: documentBytesMax }
    return parseRepository(await store.get(repositoryObject, { ...wait, range }), store.description)
  } catch (error) {
    if (error instanceof HostletError && error.code === 'E_NOT_FOUND') return undefined
    throw error
  }
}

async function mustBeEmpty(store: ObjectStore, wait: Wait): Promise<void> {
  for await (const { name } of store.list('', wait)) {
    // Made by another agent between our two looks.
    if (name === repositoryObject) return
    if (passingPrefixes.some((prefix) => name.startsWith(prefix))) continue
    throw new HostletError(
      'E_CONFLICT',
      `${store.description} holds something else already ("${name}"). Give hostlet an empty directory or prefix of its own.`,
      { details: { repository: store.description, name } }
    )
  }
}

/** Two agents may do this at once: one id stays, and both must learn it. */
async function makeRepository(store: ObjectStore, wait: Wait): Promise<Repository> {
  const document = { format: repositoryFormat, id: randomUUID() }
  const content = [Buffer.from(`${JSON.stringify(document)}\n`)]
  try {
    await store.put(repositoryObject, content, { ...wait, ifAbsent: true })
  } catch (error) {
    if (!(error instanceof HostletError)) throw error
    if (error.code === 'E_UNSUPPORTED') await makeUnderLock(store, content, wait)
    else if (error.code !== 'E_CONFLICT') throw error
  }
  const made = await readRepository(store, wait)
  if (made !== undefined) return made
  throw new HostletError(
    'E_UNAVAILABLE',
    `${store.description} has lost what was just written to it. Look at its mount or service.`,
    { details: { repository: store.description } }
  )
}

/** For stores where the first of two cannot be told otherwise. */
async function makeUnderLock(store: ObjectStore, content: readonly Uint8Array[], wait: Wait): Promise<void> {
  await using _lock = await acquireLock(store, {
    name: 'locks',
    holder: { host: hostname() },
    clock: systemClock,
    signal: wait.signal,
    waitMs: lockWaitMs
  })
  if ((await readRepository(store, wait)) === undefined) await store.put(repositoryObject, content, wait)
}

function parseRepository(bytes: Uint8Array, description: string): Repository {
  const { format, id } = parseDocument(bytes, description)
  if (typeof format === 'number' && Number.isSafeInteger(format) && format > repositoryFormat)
    throw new HostletError(
      'E_UNSUPPORTED',
      `${description} is written in format ${format}, this hostlet knows ${repositoryFormat}. Use a newer one.`,
      { details: { repository: description, format } }
    )
  if (format !== repositoryFormat || typeof id !== 'string' || !idPattern.test(id)) throw damaged(description)
  return { id, format }
}

function parseDocument(bytes: Uint8Array, description: string): Record<string, unknown> {
  try {
    const document: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
    if (typeof document === 'object' && document !== null) return { ...document }
  } catch (error) {
    throw damaged(description, error)
  }
  throw damaged(description)
}

function damaged(description: string, cause?: unknown): HostletError {
  return new HostletError(
    'E_CORRUPT',
    `${repositoryObject} in ${description} is not as hostlet writes it. Restore it from a copy; backups can be read without it.`,
    { cause, details: { repository: description } }
  )
}
