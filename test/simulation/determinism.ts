// Takes chance and the thread pool out of this process: ids and bytes come from the world's seed, files and signatures are
// done where they are asked for. Only for processes that do nothing but simulate.

import crypto, { KeyObject, type webcrypto } from 'node:crypto'
import { EventEmitter } from 'node:events'
import fs from 'node:fs'
import fsPromises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import workerThreads from 'node:worker_threads'
import { Random } from './random.ts'

/** What the world that runs now uses. */
interface Current {
  readonly random: Random
  now(): number
  after(ms: number, callback: () => void): unknown
  /** A file by its handle. */
  open(path: string, flags: string, mode?: number): unknown
}
let current: Current = {
  random: new Random(0),
  now: () => 0,
  after: () => undefined,
  open: (path) => {
    throw new Error(`there is no world that has ${path}`)
  }
}

/** From now on what the code draws by itself comes from this world. */
export function enterWorld(world: Current): void {
  current = world
}

type Changeable = Record<string, unknown>

const direct = [
  'access',
  'appendFile',
  'chmod',
  'copyFile',
  'link',
  'lstat',
  'mkdir',
  'mkdtemp',
  'readFile',
  'readdir',
  'readlink',
  'realpath',
  'rename',
  'rm',
  'stat',
  'statfs',
  'symlink',
  'unlink',
  'utimes',
  'writeFile'
] as const

/** What the product loads when it first needs it: the disk answers when it likes. */
async function loadEverything(): Promise<void> {
  await Promise.all([import('jose'), import('croner'), import('undici')])
}

/** Once a process, after everything was imported and every key was made. */
export async function installDeterminism(): Promise<void> {
  await loadEverything()
  Math.random = () => current.random.next()
  Date.now = () => current.now()
  AbortSignal.timeout = (ms) => {
    const controller = new AbortController()
    const late = new DOMException('The operation was aborted due to timeout', 'TimeoutError')
    current.after(ms, () => controller.abort(late))
    return controller.signal
  }
  const changed = crypto as unknown as Changeable
  changed.randomUUID = () => uuid(current.random, '4')
  changed.randomUUIDv7 = () => timedUuid(current.random, current.now())
  changed.randomBytes = (bytes: number) => Buffer.from(current.random.hex(bytes), 'hex')
  changed.createPrivateKey = remembered(crypto.createPrivateKey)
  changed.X509Certificate = rememberedCertificates()
  const promised = fsPromises as unknown as Changeable
  const synchronous = fs as unknown as Record<string, (...values: unknown[]) => unknown>
  for (const name of direct)
    promised[name] = async (...values: unknown[]) => synchronous[`${name}Sync`]?.(...values)
  promised.open = async (path: string, flags = 'r', mode?: number) => current.open(path, flags, mode)
  synchronous.watch = () => Object.assign(new EventEmitter(), { close: () => undefined })
  const threads = workerThreads as unknown as Changeable
  threads.Worker = NoThread
  syncBuiltinESMExports()
  signAtOnce()
}

/** In place of the thread that makes the journal's log shorter: here it may grow, worlds are short. */
class NoThread extends EventEmitter {
  constructor(program: URL) {
    super()
    if (!program.pathname.endsWith('checkpoint-worker.ts')) throw new Error(`no thread for ${program}`)
  }

  postMessage(): void {
    queueMicrotask(() => this.emit('message', { isComplete: true }))
  }

  ref(): void {}
  unref(): void {}

  async terminate(): Promise<number> {
    return 0
  }
}

/** A UUID, as the world of this seed would have it. */
export function uuid(random: Random, version: string, head = random.hex(6)): string {
  const rest = random.hex(8)
  return `${head.slice(0, 8)}-${head.slice(8, 12)}-${version}${rest.slice(0, 3)}-a${rest.slice(3, 6)}-${rest.slice(4, 16)}`
}

function timedUuid(random: Random, now: number): string {
  return uuid(random, '7', now.toString(16).padStart(12, '0'))
}

/** Reading a key or a certificate takes long, is done at each heartbeat, and says the same each time. */
function remembered<Argument, Value>(make: (argument: Argument) => Value): (argument: Argument) => Value {
  const known = new Map<Argument, Value>()
  return (argument) => {
    const value = known.get(argument) ?? make(argument)
    if (typeof argument === 'string') known.set(argument, value)
    return value
  }
}

/** There is one authority in all worlds, so whether it signed a certificate is the same each time too. */
function rememberedCertificates(): unknown {
  const Certificate = crypto.X509Certificate
  const make = remembered((pem: string | Buffer) => {
    const certificate = new Certificate(pem)
    const known = certificate as unknown as Changeable
    const { publicKey } = certificate
    Object.defineProperty(known, 'publicKey', { value: publicKey })
    known.verify = once(certificate.verify.bind(certificate))
    known.checkPrivateKey = once(certificate.checkPrivateKey.bind(certificate))
    return certificate
  })
  function Remembered(pem: string | Buffer) {
    return make(pem)
  }
  Remembered.prototype = Certificate.prototype
  return Remembered
}

function once<Argument, Value>(work: (argument: Argument) => Value): (argument: Argument) => Value {
  let done: { value: Value } | undefined
  return (argument) => {
    done ??= { value: work(argument) }
    return done.value
  }
}

/** The thread pool answers in any order; node:crypto's own functions answer at once. */
function signAtOnce(): void {
  const subtle = globalThis.crypto.subtle as unknown as Changeable
  const keyOf = (key: webcrypto.CryptoKey) => KeyObject.from(key)
  subtle.verify = async (
    algorithm: { name: string },
    key: webcrypto.CryptoKey,
    signature: Uint8Array,
    data: Uint8Array
  ) => {
    if (algorithm.name !== 'Ed25519') throw new Error(`the simulation verifies no ${algorithm.name}`)
    return crypto.verify(null, data, keyOf(key), signature)
  }
  subtle.sign = async (algorithm: { name: string }, key: webcrypto.CryptoKey, data: Uint8Array) => {
    if (algorithm.name !== 'Ed25519') throw new Error(`the simulation signs no ${algorithm.name}`)
    return crypto.sign(null, data, keyOf(key))
  }
  subtle.digest = async (_algorithm: unknown, data: Uint8Array) =>
    crypto.createHash('sha256').update(data).digest()
}
