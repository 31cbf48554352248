// What somebody did to this host with the command line: dropped as a file by that process, taken into the trail by the agent.

import { createHash, randomUUID } from 'node:crypto'
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, watch } from 'node:fs'
import { userInfo } from 'node:os'
import { dirname, join } from 'node:path'
import { asHostletError, HostletError } from '../../errors.ts'
import type { EntryFields } from '../../lib/chain.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import { privateDirectoryMode, writePrivateFile } from '../../lib/private-file.ts'
import { type Static, Type } from '../../lib/schema.ts'
import { ShortText, strict, Timestamp, Uuid } from '../../protocol/names.ts'
import { compile } from '../../protocol/validate.ts'
import { localDirectoryName, trailDirectory } from './segments.ts'

/** How often the directory is looked at where nothing told of a change. */
export const lookIntervalMs = 60_000
/** Files of one look; the rest follows with the next. */
const filesMax = 256
const fileBytesMax = 16 * 1024

const Facts = Type.Record(
  ShortText,
  Type.Union([Type.String({ maxLength: 1_024 }), Type.Number(), Type.Boolean()])
)

export const LocalAction = Type.Object(
  {
    /** The same for what one process says before and after. */
    id: Uuid,
    at: Timestamp,
    /** The words of the command: `enroll`. */
    action: ShortText,
    /** `begun` when its process has not told of an end: it runs, or it was killed. */
    outcome: Type.Enum(['begun', 'done', 'failed']),
    code: Type.Optional(ShortText),
    message: Type.Optional(Type.String({ maxLength: 4_096 })),
    uid: Type.Integer({ minimum: 0 }),
    user: Type.Optional(ShortText),
    /** Who called sudo, where it was used. */
    sudoUser: Type.Optional(ShortText),
    facts: Facts
  },
  strict
)
export type LocalAction = Static<typeof LocalAction>
export type LocalFacts = Static<typeof Facts>

const parseAction = compile(LocalAction, 'local action')

/**
 * Does something to this host and leaves word of it for the trail: before, that it is begun, and after, how it ended. Throws
 * E_UNAVAILABLE when that cannot be written, and then nothing was done; and whatever the action throws.
 */
export async function recordedAction<Value>(
  { stateDirectory, action, facts = {}, environment, now }: RecordedAction,
  act: () => Promise<Value>
): Promise<Value> {
  const who = callerOf(environment)
  const frame = { id: randomUUID(), action, facts, ...who }
  const tell = (end: Pick<LocalAction, 'outcome' | 'code' | 'message'>) =>
    dropAction(stateDirectory, { ...frame, at: now(), ...end })
  tell({ outcome: 'begun' })
  let value: Value
  try {
    value = await act()
  } catch (thrown) {
    const { code, message } = asHostletError(thrown)
    tell({ outcome: 'failed', code, message: message.slice(0, 4_096) })
    throw thrown
  }
  tell({ outcome: 'done' })
  return value
}

export interface RecordedAction {
  readonly stateDirectory: string
  readonly action: string
  readonly facts?: LocalFacts
  readonly environment: Readonly<Record<string, string | undefined>>
  now(): number
}

/** No file is ever replaced, so that the agent removes none that it has not read; the first goes once the other is there. */
function dropAction(stateDirectory: string, action: LocalAction): void {
  const directory = join(trailDirectory(stateDirectory), localDirectoryName)
  makeDirectories([stateDirectory, trailDirectory(stateDirectory), directory])
  const begun = join(directory, `${action.id}.begun.json`)
  const path = action.outcome === 'begun' ? begun : join(directory, `${action.id}.json`)
  writePrivateFile(path, `${JSON.stringify(action)}\n`)
  giveTo(statSync(stateDirectory), path)
  if (path !== begun) rmSync(begun, { force: true })
}

/** As root what is made belongs to whom the state directory belongs to: the agent has to read it. */
function makeDirectories([first = '', ...others]: readonly string[]): void {
  try {
    if (!existsSync(first)) mkdirSync(first, { recursive: true, mode: privateDirectoryMode })
    for (const path of others)
      if (!existsSync(path)) {
        mkdirSync(path, { mode: privateDirectoryMode })
        giveTo(statSync(dirname(path)), path)
      }
  } catch (cause) {
    const code = String((cause as NodeJS.ErrnoException).code ?? 'unknown error')
    throw new HostletError(
      'E_UNAVAILABLE',
      `the audit trail below ${first} cannot be written (${code}), and nothing is done to this host that is not written down. Run this as root or as the agent's user.`,
      { cause }
    )
  }
}

function giveTo(owner: { uid: number; gid: number }, path: string): void {
  if (process.getuid?.() === 0) chownSync(path, owner.uid, owner.gid)
}

function callerOf(
  environment: RecordedAction['environment']
): Pick<LocalAction, 'uid' | 'user' | 'sudoUser'> {
  const sudoUser = environment.SUDO_USER
  const user = nameOfUser()
  return {
    uid: process.getuid?.() ?? 0,
    ...(user !== undefined && { user }),
    ...(sudoUser !== undefined && sudoUser !== '' && { sudoUser: sudoUser.slice(0, 256) })
  }
}

function nameOfUser(): string | undefined {
  try {
    return userInfo().username
  } catch {
    // A user id without a name.
    return undefined
  }
}

export interface PendingAction {
  readonly path: string
  readonly name: string
  /** Undefined for a file that holds none. */
  readonly action: LocalAction | undefined
  readonly sha256: string
}

/** What the agent has not taken into the trail, the oldest first. Throws nothing: where there is no directory there is nothing. */
export function pendingActions(directory: string): PendingAction[] {
  return namesIn(directory)
    .filter((name) => name.endsWith('.json') && !name.startsWith('.'))
    .slice(0, filesMax)
    .flatMap((name) => readAction(join(directory, name), name))
    .sort((left, right) => (left.action?.at ?? 0) - (right.action?.at ?? 0))
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch {
    // Not there yet, or not ours to read: the trail itself says so.
    return []
  }
}

function readAction(path: string, name: string): PendingAction[] {
  try {
    const content = readFileSync(path).subarray(0, fileBytesMax)
    const sha256 = createHash('sha256').update(content).digest('hex')
    return [{ path, name, sha256, action: parsedAction(content) }]
  } catch {
    // Gone meanwhile: what it said is told by another one.
    return []
  }
}

function parsedAction(content: Buffer): LocalAction | undefined {
  try {
    return parseAction(JSON.parse(content.toString('utf8')))
  } catch {
    // Noted as what it is: a file that nobody of ours wrote.
    return undefined
  }
}

export function fieldsOfAction({ action, name, sha256 }: PendingAction): EntryFields {
  if (action === undefined) return { action: 'unreadable', file: name.slice(0, 256), sha256 }
  const { at: doneAt, facts, ...rest } = action
  return { ...rest, doneAt, ...(Object.keys(facts).length > 0 && { facts }) }
}

export interface CollectorOptions {
  readonly directory: string
  readonly clock: Pick<Clock, 'timer'>
  readonly log: Logger
  /** On disk when it resolves. */
  append(kind: string, fields: EntryFields): Promise<unknown>
}

/** Takes what is dropped into the trail: at once, and again after a while where that failed. */
export class LocalActionCollector implements AsyncDisposable {
  readonly #options: CollectorOptions
  #watcher: { close(): void } | undefined
  #timer: Disposable | undefined
  #looking: Promise<void> | undefined
  #again = false
  #isOpen = true

  constructor(options: CollectorOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    await this.look()
    try {
      const watcher = watch(this.#options.directory, { persistent: false }, () => void this.look())
      watcher.on('error', (error) =>
        this.#options.log.warn({ error }, 'local actions are looked at by the clock')
      )
      this.#watcher = watcher
    } catch (error) {
      this.#options.log.warn({ error: asHostletError(error) }, 'local actions are looked at by the clock')
    }
  }

  /** Resolves when all that was there is in the trail, or could not be written. */
  look(): Promise<void> {
    this.#again = true
    this.#looking ??= this.#lookOn().finally(() => {
      this.#looking = undefined
    })
    return this.#looking
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOpen = false
    this.#watcher?.close()
    this.#timer?.[Symbol.dispose]()
    await this.#looking
  }

  async #lookOn(): Promise<void> {
    while (this.#again && this.#isOpen) {
      this.#again = false
      for (const pending of pendingActions(this.#options.directory)) await this.#take(pending)
    }
    this.#timer?.[Symbol.dispose]()
    if (this.#isOpen) this.#timer = this.#options.clock.timer(lookIntervalMs, () => void this.look())
  }

  /** The file goes once its entry is on disk; a crash in between has it in the trail twice, under one id. */
  async #take(pending: PendingAction): Promise<void> {
    try {
      await this.#options.append('local', fieldsOfAction(pending))
      rmSync(pending.path, { force: true })
    } catch (error) {
      this.#options.log.warn(
        { error: asHostletError(error) },
        'a local action could not be taken into the audit trail'
      )
    }
  }
}
