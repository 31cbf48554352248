// A repository of backups without agent or scheduler: opened from options, its VMs found, their vaults unlocked with key files.

import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { parseCredentials } from '../../backup/repository/credentials.ts'
import type { StoreCredentials } from '../../backup/repository/open-store.ts'
import type { ObjectStore } from '../../backup/repository/store.ts'
import type { GoodSnapshot, SnapshotSummary } from '../../backup/vault/read-manifest.ts'
import type { Vault } from '../../backup/vault/vault.ts'
import { HostletError } from '../../errors.ts'
import type { Cli } from '../cli.ts'

export interface RepositoryOptions {
  readonly repository?: string
  readonly key?: readonly string[]
  readonly ca?: string
  readonly endpoint?: string
  readonly endpointCa?: string
  readonly region?: string
  readonly pathStyle?: boolean
  readonly credentials?: string
}

/** VMs of one repository. */
const vmsMax = 100_000
const fileBytesMax = 1024 * 1024
const uuidForm = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

export function repositoryOptions(command: Command): Command {
  return command
    .option('--repository <url>', 'straight at a repository: file:///directory or s3://bucket/prefix')
    .option('--key <file>', 'private key that opens its backups (JWK); may be repeated', collect)
    .option('--ca <file>', 'PEM of the scheduler’s CA: checks which host signed each backup')
    .option('--endpoint <url>', 'address of the S3 service')
    .option('--endpoint-ca <file>', 'PEM of its CA, where the system does not know it')
    .option('--region <region>', 'of the bucket')
    .option('--path-style', 'the bucket in the path, as services of one’s own want it')
    .option('--credentials <file>', 'JSON with accessKeyId and secretAccessKey')
}

/** Throws E_BAD_REQUEST where options of a repository stand without one, or a repository without a key. */
export function checkRepositoryOptions(options: RepositoryOptions): void {
  const { repository, key, ca, endpoint, endpointCa, region, pathStyle, credentials } = options
  const given = { key, ca, endpoint, 'endpoint-ca': endpointCa, region, 'path-style': pathStyle, credentials }
  const lone = Object.entries(given).find(([, value]) => value !== undefined)?.[0]
  if (repository === undefined && lone !== undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      `--${lone} is for a repository: give --repository with its address.`
    )
  if (repository !== undefined && key === undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      'its backups are encrypted: give --key with the file of a private key that they are wrapped for, such as the recovery key.'
    )
}

/** An open repository. Everything it reads is checked; what cannot be read is told, never passed over. */
export class Repository implements AsyncDisposable {
  readonly store: ObjectStore
  readonly #cli: Cli
  readonly #signal: AbortSignal
  readonly #keys: Awaited<ReturnType<typeof readKeys>>
  readonly #authorities: readonly string[] | undefined

  private constructor(parts: {
    store: ObjectStore
    cli: Cli
    signal: AbortSignal
    keys: Awaited<ReturnType<typeof readKeys>>
    authorities: readonly string[] | undefined
  }) {
    this.store = parts.store
    this.#cli = parts.cli
    this.#signal = parts.signal
    this.#keys = parts.keys
    this.#authorities = parts.authorities
  }

  /** Throws E_NOT_FOUND where there is no repository, E_BAD_REQUEST for files that are not what they should be. */
  static async open(cli: Cli, options: RepositoryOptions, signal: AbortSignal): Promise<Repository> {
    // First what needs nobody: a wrong key file should not wait for a network.
    const keys = await readKeys(options.key ?? [])
    const authorities = options.ca === undefined ? undefined : [readText(options.ca, 'CA certificate')]
    const [{ openStore }, { ensureRepository }] = await Promise.all([
      import('../../backup/repository/open-store.ts'),
      import('../../backup/repository/repository.ts')
    ])
    const store = await openStore(settingsOf(options), { clock: cli.clock, signal })
    try {
      await ensureRepository(store, { signal, create: false })
      return new Repository({ store, cli, signal, keys, authorities })
    } catch (error) {
      await store.close()
      throw error
    }
  }

  /** The vault of one VM. Throws E_AUTH where no key opens it. */
  async vault(uuid: string): Promise<Vault> {
    const { Vault } = await import('../../backup/vault/vault.ts')
    const trust = this.#authorities && { authorities: this.#authorities }
    return Vault.open({
      ...{ store: this.store, vm: uuid, unlocker: { keys: this.#keys }, signal: this.#signal },
      ...(trust === undefined ? {} : { trust })
    })
  }

  /** UUIDs of all VMs with anything in the repository. */
  async uuids(): Promise<readonly string[]> {
    const found = new Set<string>()
    for await (const { name } of this.store.list('vms/', { signal: this.#signal })) {
      const uuid = name.split('/')[1] ?? ''
      if (uuidForm.test(uuid)) found.add(uuid)
      if (found.size > vmsMax)
        throw new HostletError('E_CAPACITY', `more than ${vmsMax} VMs. Name one by its UUID with --vm.`)
    }
    return [...found].sort()
  }

  /**
   * Vaults that a key given opens, of all VMs or those that `vm` names: a UUID, or the name at the newest backup. What is
   * locked is told as a note. Throws E_NOT_FOUND where none is of that name, E_AUTH where all are locked.
   */
  async vaults(vm: string | undefined): Promise<readonly OpenVault[]> {
    if (vm !== undefined && uuidForm.test(vm)) return [await this.#open(vm)]
    const opened: OpenVault[] = []
    const locked: string[] = []
    let refusal: unknown
    for (const uuid of await this.uuids()) {
      try {
        opened.push(await this.#open(uuid))
      } catch (error) {
        if (!(error instanceof HostletError) || error.code !== 'E_AUTH') throw error
        refusal = error
        locked.push(uuid)
      }
    }
    if (opened.length === 0 && refusal !== undefined) throw refusal
    const chosen = opened.filter(({ name }) => vm === undefined || name === vm)
    if (locked.length > 0)
      this.#cli.note(
        `No key given opens the backups of ${locked.length} more VM${locked.length === 1 ? '' : 's'}: ${locked.slice(0, 8).join(', ')}${locked.length > 8 ? '…' : ''}`
      )
    if (vm !== undefined && chosen.length === 0) throw this.#noSuchVm(vm)
    return chosen
  }

  /** The one VM that is meant. Throws as `vaults` does, and E_CONFLICT where several have the name. */
  async onlyVault(vm: string | undefined): Promise<OpenVault> {
    const [only, ...others] = await this.vaults(vm)
    if (only === undefined) throw this.#noSuchVm(vm ?? 'any')
    if (others.length === 0) return only
    const all = [only, ...others].map(({ vault, name }) => `${name ?? '?'} ${vault.vm}`).slice(0, 16)
    throw new HostletError(
      'E_CONFLICT',
      `there are backups of several VMs${vm === undefined ? '' : ` named ${vm}`}: name one by its UUID with --vm (${all.join(', ')}).`
    )
  }

  /** A snapshot by its id, in whichever vault, or `latest` of the VM. Throws E_NOT_FOUND, or what is wrong with it. */
  async find(id: string, vm: string | undefined): Promise<{ vault: Vault; snapshot: GoodSnapshot }> {
    if (id !== 'latest' && !uuidForm.test(id))
      throw new HostletError(
        'E_BAD_REQUEST',
        `"${id}" is no backup: give its id as "hostlet backup ls" shows it, or latest.`
      )
    const uuid = vm === undefined && id !== 'latest' ? await this.#vmOf(id) : undefined
    const { vault } = await this.onlyVault(uuid ?? vm)
    return { vault, snapshot: await vault.snapshot(id, { signal: this.#signal }) }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close()
  }

  async #open(uuid: string): Promise<OpenVault> {
    const vault = await this.vault(uuid)
    const snapshots = await vault.snapshots({ signal: this.#signal })
    if (snapshots.length === 0) throw this.#noSuchVm(uuid)
    const newest = snapshots.filter((one) => one.state === 'good').at(-1)
    return { vault, snapshots, name: newest?.state === 'good' ? newest.body.vm.name : undefined }
  }

  async #vmOf(snapshot: string): Promise<string> {
    for await (const { name } of this.store.list('vms/', { signal: this.#signal }))
      if (name.endsWith(`/snapshots/${snapshot}.json`)) return name.split('/')[1] ?? ''
    throw new HostletError(
      'E_NOT_FOUND',
      `there is no backup ${snapshot} in ${this.store.description}. See "hostlet backup ls --repository …".`
    )
  }

  #noSuchVm(vm: string): HostletError {
    return new HostletError(
      'E_NOT_FOUND',
      `${this.store.description} holds no backups of VM ${vm}. See "hostlet backup ls --repository …" for those that there are.`
    )
  }
}

export interface OpenVault {
  readonly vault: Vault
  /** By sequence, the newest last; bad ones first. */
  readonly snapshots: readonly SnapshotSummary[]
  /** Of the VM at its newest good backup. */
  readonly name: string | undefined
}

async function readKeys(paths: readonly string[]) {
  const { parsePrivateKey } = await import('../../agent/keys/jwk.ts')
  return Promise.all(paths.map((path) => badFile(parsePrivateKey(readText(path, 'key'), path))))
}

/** A file that was given and is not what it should be is the asker's mistake, not damaged data. */
export async function badFile<Value>(reading: Promise<Value>): Promise<Value> {
  try {
    return await reading
  } catch (error) {
    if (error instanceof HostletError && error.code === 'E_CORRUPT')
      throw new HostletError('E_BAD_REQUEST', `${error.message}. Make one with "hostlet backup keygen".`, {
        cause: error
      })
    throw error
  }
}

function settingsOf({ repository = '', ...options }: RepositoryOptions) {
  const { endpoint, endpointCa, region, pathStyle, credentials } = options
  return {
    url: repository,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
    ...(pathStyle === undefined ? {} : { pathStyle }),
    ...(endpointCa === undefined ? {} : { ca: readText(endpointCa, 'CA certificate') }),
    ...(credentials === undefined ? {} : { credentials: readCredentials(credentials) })
  }
}

function readCredentials(path: string): StoreCredentials {
  const text = readText(path, 'credentials')
  try {
    return parseCredentials(text, path)
  } catch {
    // Without its content: a typing mistake must not show a secret.
    throw new HostletError(
      'E_BAD_REQUEST',
      `${path} holds no credentials: expected JSON with accessKeyId and secretAccessKey.`
    )
  }
}

/** Throws E_BAD_REQUEST: the path was given by the asker. */
export function readText(path: string, what: string): string {
  try {
    const text = readFileSync(path, 'utf8')
    if (text.length <= fileBytesMax) return text
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new HostletError('E_BAD_REQUEST', `${path}: the ${what} cannot be read (${code}).`, { cause })
  }
  throw new HostletError('E_BAD_REQUEST', `${path}: too long for a ${what}.`)
}

function collect(path: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), path]
}
