// Repositories by address: which store an URL means, opened.

import { isAbsolute } from 'node:path'
import { fileURLToPath } from 'node:url'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import { DirectoryStore } from './directory-store.ts'
import type { ObjectStore } from './store.ts'

/** What may be said of a repository. All but the address and the credentials is for S3. */
export interface StoreSettings {
  /** `file:///directory` or `s3://bucket/prefix`. No credentials in it. */
  readonly url: string
  /** Of the service, as `https://s3.example`; by default that of AWS for the region. */
  readonly endpoint?: string
  readonly region?: string
  /** The bucket in the path instead of the host's name: what services of one's own mostly want. */
  readonly pathStyle?: boolean
  readonly credentials?: StoreCredentials
  /** Certificates in PEM to trust instead of the system's. */
  readonly ca?: string
}

export interface StoreCredentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
}

export interface StoreContext {
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly log?: Logger
}

/** Opens the store; looks at nothing in it yet. Throws E_BAD_REQUEST for settings that cannot be, else as the store does. */
export async function openStore(settings: StoreSettings, context: StoreContext): Promise<ObjectStore> {
  const url = parseUrl(settings.url)
  if (url.protocol === 'file:') return await DirectoryStore.open(directoryOf(url), context)
  // Loaded when used: most hosts need one kind of store only.
  const { S3Store } = await import('./s3-store.ts')
  return await S3Store.open(url, settings, context)
}

function parseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !['file:', 's3:'].includes(url.protocol))
    throw badAddress('is "file:///directory" or "s3://bucket/prefix"')
  if (url.username !== '' || url.password !== '')
    throw badAddress('holds no credentials: they come from a file or a systemd credential')
  if (url.search !== '' || url.hash !== '') throw badAddress('ends with its path')
  return url
}

function directoryOf(url: URL): string {
  if (url.host !== '') throw badAddress('of a directory has three slashes: "file:///directory"')
  const path = fileURLToPath(url)
  if (!isAbsolute(path)) throw badAddress('of a directory is absolute')
  return path
}

/** Does not repeat the address: what is wrong with it may be that it holds a secret. */
function badAddress(text: string): HostletError {
  return new HostletError('E_BAD_REQUEST', `the address of a repository ${text}`)
}
