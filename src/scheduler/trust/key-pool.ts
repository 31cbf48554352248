// The private keys of the fleet that this scheduler can use: credentials of systemd, and files of its state directory.

import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import { join } from 'node:path'
import { HostletError } from '../../errors.ts'
import { replacePrivateFile, shredFile } from '../../lib/shred.ts'
import { hashOfKey } from '../identity/authority.ts'
import { type CommandPrivateKey, commandKeyText, parseCommandKey } from '../identity/command-signer.ts'
import { readIfThere } from '../identity/read-if-there.ts'

/** Where a key may lie: names of a credential and of a file. `next` is the one that a rotation brings. */
export const commandKeyNames = {
  current: { credential: 'hostlet-command-key', file: 'command-key.json' },
  next: { credential: 'hostlet-command-key-next', file: 'command-key-next.json' }
} as const
export const authorityKeyNames = {
  current: { credential: 'hostlet-ca-key', file: 'ca-key.pem' },
  next: { credential: 'hostlet-ca-key-next', file: 'ca-next-key.pem' }
} as const

type Names = typeof commandKeyNames | typeof authorityKeyNames

export interface PooledKey<Key> {
  /** What hosts know it by: the `kid` of a command key, the hash of a CA's public key. */
  readonly id: string
  readonly key: Key
  readonly path: string
  /** Of systemd: never written to disk, never removed. */
  readonly isCredential: boolean
}

export interface KeyPlaces {
  readonly directory: string
  /** Where systemd has put the unit's credentials; undefined outside of systemd. */
  readonly credentialsDirectory: string | undefined
}

export class KeyPool<Key> {
  readonly #places: KeyPlaces
  readonly #names: Names
  readonly #parse: (text: string, path: string) => Promise<{ id: string; key: Key }>
  readonly #textOf: (key: Key) => string
  #keys: readonly PooledKey<Key>[] = []

  private constructor(
    places: KeyPlaces,
    names: Names,
    parse: (text: string, path: string) => Promise<{ id: string; key: Key }>,
    textOf: (key: Key) => string
  ) {
    this.#places = places
    this.#names = names
    this.#parse = parse
    this.#textOf = textOf
  }

  /** Throws E_CORRUPT when what is there is no such key, E_UNAVAILABLE when it cannot be read. */
  static async ofCommands(places: KeyPlaces): Promise<KeyPool<CommandPrivateKey>> {
    const parse = async (text: string, path: string) => {
      const key = await parseCommandKey(text, path)
      return { id: key.kid, key }
    }
    const pool = new KeyPool<CommandPrivateKey>(places, commandKeyNames, parse, commandKeyText)
    await pool.read()
    return pool
  }

  /** Keys of CAs, as PEM (PKCS #8). */
  static async ofAuthorities(places: KeyPlaces): Promise<KeyPool<string>> {
    const pool = new KeyPool<string>(places, authorityKeyNames, parseAuthorityKey, (pem) => pem)
    await pool.read()
    return pool
  }

  /** Looks again at the files. */
  async read(): Promise<void> {
    const { directory, credentialsDirectory } = this.#places
    const { current, next } = this.#names
    const credentials =
      credentialsDirectory === undefined
        ? []
        : [next, current].map(({ credential }) => join(credentialsDirectory, credential))
    const files = [current, next].map(({ file }) => join(directory, file))
    this.#keys = [
      ...(await Promise.all(credentials.map((path) => this.#readOne(path, true)))),
      ...(await Promise.all(files.map((path) => this.#readOne(path, false))))
    ].flat()
  }

  find(id: string): PooledKey<Key> | undefined {
    return this.#keys.find((key) => key.id === id)
  }

  /** The first credential, `next` before the current one, that is none of these. */
  credentialBeside(ids: readonly string[]): PooledKey<Key> | undefined {
    return this.#keys.find(({ id, isCredential }) => isCredential && !ids.includes(id))
  }

  /** Before anything is recorded: the credential for the present key, or the file. */
  first(): PooledKey<Key> | undefined {
    const path = ({ file, credential }: Names['current']) => [
      join(this.#places.credentialsDirectory ?? '', credential),
      join(this.#places.directory, file)
    ]
    const [credential, file] = path(this.#names.current)
    return (
      this.#keys.find((key) => key.isCredential && key.path === credential) ??
      this.#keys.find((key) => !key.isCredential && key.path === file)
    )
  }

  async write(slot: keyof Names, key: Key): Promise<void> {
    replacePrivateFile(join(this.#places.directory, this.#names[slot].file), this.#textOf(key))
    await this.read()
  }

  /**
   * Puts files where they belong once no rotation is under way, and destroys those of keys that nobody believes. Resolves
   * with the paths of what was destroyed.
   */
  async settle(active: string, other: string | undefined): Promise<readonly string[]> {
    const currentPath = join(this.#places.directory, this.#names.current.file)
    const held = this.find(active)
    if (other === undefined && held !== undefined && !held.isCredential && held.path !== currentPath)
      await this.write('current', held.key)
    const files = this.#keys.filter(({ isCredential }) => !isCredential)
    const isNeeded = ({ id, path }: PooledKey<Key>) =>
      (id === active || id === other) && files.find((file) => file.id === id)?.path === path
    const gone = files.filter((file) => !isNeeded(file)).map(({ path }) => path)
    for (const path of gone) shredFile(path)
    await this.read()
    return gone
  }

  /** Files whose key systemd gives as well: copies that need not lie there. */
  copies(): readonly string[] {
    const given = this.#keys.filter(({ isCredential }) => isCredential).map(({ id }) => id)
    return this.#keys.filter((key) => !key.isCredential && given.includes(key.id)).map(({ path }) => path)
  }

  async #readOne(path: string, isCredential: boolean): Promise<PooledKey<Key>[]> {
    const text = readIfThere(path)
    return text === undefined ? [] : [{ ...(await this.#parse(text, path)), path, isCredential }]
  }
}

async function parseAuthorityKey(text: string, path: string): Promise<{ id: string; key: string }> {
  const key = privateKeyOf(text)
  if (key?.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    throw new HostletError(
      'E_CORRUPT',
      `${path} is not a private ECDSA key on P-256 in PEM. Restore it from a backup.`
    )
  return { id: hashOfKey(createPublicKey(key)), key: String(key.export({ type: 'pkcs8', format: 'pem' })) }
}

function privateKeyOf(text: string): KeyObject | undefined {
  try {
    return createPrivateKey(text)
  } catch {
    // The cause is left out: a parser's message may repeat what it could not read.
    return undefined
  }
}
