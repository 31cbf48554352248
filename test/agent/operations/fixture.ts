// A dispatcher on a real journal, with verbs whose steps the test holds in its hands.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Type } from 'typebox'
import { CommandVerifier } from '../../../src/agent/operations/command-verifier.ts'
import { Dispatcher } from '../../../src/agent/operations/dispatch.ts'
import type { DispatcherOptions } from '../../../src/agent/operations/dispatcher-options.ts'
import { Journal, type JournalEntry, type JournalOptions } from '../../../src/agent/operations/journal.ts'
import { defineVerb, type Step } from '../../../src/agent/operations/verb.ts'
import { hostDrain } from '../../../src/agent/verbs/host-drain.ts'
import { hostResume } from '../../../src/agent/verbs/host-resume.ts'
import { operationCancel } from '../../../src/agent/verbs/operation-cancel.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import type { CommandResult } from '../../../src/protocol/command.ts'
import type { AgentMessage, AgentMessageOf } from '../../../src/protocol/messages.ts'
import { VmName } from '../../../src/protocol/names.ts'
import { FakeClock, settle } from '../../support/fake-clock.ts'
import { claimsOf, createSigner, hostId, type Signer } from '../../support/signed-commands.ts'

/** What the fake verbs act upon: a list of what was done, and hooks that a test replaces. */
export class FakeHost {
  readonly done: string[] = []
  steps: readonly Step[] = [
    { name: 'one', apply: async () => this.note('one'), undo: async () => this.note('undo one') },
    { name: 'two', apply: async () => this.note('two'), undo: async () => this.note('undo two') }
  ]
  check: () => Promise<void> = async () => undefined
  value: unknown = { ok: true }

  note(text: string): undefined {
    this.done.push(text)
    return undefined
  }
}

const params = Type.Object(
  { vm: VmName, size: Type.Optional(Type.Integer()) },
  { additionalProperties: false }
)
const common = {
  summary: 'A verb of the tests.',
  deadlineMs: 60_000,
  params,
  result: Type.Object({ ok: Type.Boolean() }),
  steps: (_params: unknown, host: FakeHost) => host.steps,
  check: (_params: unknown, host: FakeHost) => host.check(),
  outcome: async (_params: unknown, host: FakeHost) => host.value as { ok: boolean }
}
const define = defineVerb<FakeHost>()
export const verbs = [
  define({ ...common, name: 'test.change', lock: 'vm', changes: true, afterCrash: 'resume' }),
  define({ ...common, name: 'test.rollback', lock: 'vm', changes: true, afterCrash: 'rollback' }),
  define({ ...common, name: 'test.look', lock: 'none', looks: true, changes: false, afterCrash: 'resume' }),
  define({
    ...common,
    name: 'test.prefetch',
    lock: 'image',
    changes: false,
    afterCrash: 'resume',
    lockKey: () => 'x'
  }),
  define({ ...common, name: 'test.clean', lock: 'host', changes: false, afterCrash: 'resume' }),
  define({
    ...common,
    name: 'test.transfer',
    lock: 'vm',
    changes: false,
    afterCrash: 'resume',
    lane: 'transfer',
    cancellable: true
  }),
  define({
    ...common,
    name: 'test.backup',
    lock: 'backup',
    changes: false,
    afterCrash: 'resume',
    lane: 'transfer',
    cancellable: true,
    lockKey: ({ vm }) => vm
  }),
  define({
    ...common,
    name: 'test.replace',
    lock: 'vm',
    backups: 'wait',
    changes: true,
    afterCrash: 'resume'
  }),
  define({ ...common, name: 'test.remove', lock: 'vm', backups: 'end', changes: true, afterCrash: 'resume' }),
  define({
    ...common,
    name: 'test.stop',
    lock: 'vm',
    changes: true,
    priority: 'urgent',
    afterCrash: 'resume'
  }),
  operationCancel,
  hostDrain,
  hostResume
]

export class Fixture implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'hostlet-operations-'))
  readonly clock = new FakeClock()
  readonly host = new FakeHost()
  readonly sent: AgentMessage[] = []
  readonly signer: Signer
  readonly generations = new Map<string, number>()
  readonly readiness = {
    isReady: () => true,
    untilReady: async (signal: AbortSignal) => signal.throwIfAborted()
  }
  journal: Journal
  dispatcher: Dispatcher<FakeHost>
  changed = 0
  /** Replaced by tests of what waits for the disk. */
  sync: () => Promise<void> = async () => undefined
  readonly ends: { entry: JournalEntry; result: CommandResult }[] = []
  #options: Partial<DispatcherOptions<FakeHost>> = {}

  private constructor(signer: Signer) {
    this.signer = signer
    this.journal = this.#open()
    this.dispatcher = this.#createDispatcher()
  }

  static async create(): Promise<Fixture> {
    return new Fixture(await createSigner())
  }

  /** What a new process finds: the same file, nothing in memory. The dispatcher of before is left where it is. */
  restart(options: Partial<DispatcherOptions<FakeHost>> = {}): void {
    this.#options = options
    this.journal[Symbol.dispose]()
    this.journal = this.#open()
    this.sent.length = 0
    this.dispatcher = this.#createDispatcher()
  }

  /** Another journal on the same file, and a dispatcher on it. */
  openJournal(options: Partial<JournalOptions>): void {
    this.journal = this.#open(options)
    this.dispatcher = this.#createDispatcher()
  }

  /** The request is an operation's cancellation; tells how it was answered. */
  async cancel(operation: string): Promise<unknown> {
    const { subject: _none, ...claims } = this.claims({ verb: 'operation.cancel', arguments: { operation } })
    await this.receive(claims)
    const result = this.sentOf('result').find(({ result: { command } }) => command === claims.id)?.result
    return result?.outcome === 'done' ? result.value?.state : result?.error?.code
  }

  resultOf(id: string): CommandResult | undefined {
    return this.sentOf('result').find(({ result: { command } }) => command === id)?.result
  }

  claims(changes: Parameters<typeof claimsOf>[1] = {}) {
    return claimsOf(this.clock.now(), changes)
  }

  async receive(claims: unknown): Promise<void> {
    await this.dispatcher.receive(await this.signer.sign(claims))
    await settle()
  }

  sentOf<Type extends AgentMessage['type']>(type: Type): AgentMessageOf<Type>[] {
    return this.sent.filter((message): message is AgentMessageOf<Type> => message.type === type)
  }

  refusalCode(): string | undefined {
    return this.sentOf('refusal').at(-1)?.error.code
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const stopped = this.dispatcher.stop(1_000)
    await this.clock.advance(60_000)
    await stopped
    this.journal[Symbol.dispose]()
    rmSync(this.directory, { recursive: true })
  }

  #open(options: Partial<JournalOptions> = {}): Journal {
    const path = join(this.directory, 'agent.db')
    return new Journal(path, { clock: this.clock, sync: () => this.sync(), ...options })
  }

  #createDispatcher(): Dispatcher<FakeHost> {
    const { clock, host, journal, readiness } = this
    return new Dispatcher<FakeHost>({
      host,
      verbs,
      journal,
      clock,
      readiness,
      log: silentLogger,
      random: () => 0.5,
      verifier: new CommandVerifier({ hostId, keys: () => [this.signer.publicKey], clock }),
      generationOf: async ({ uuid }) => this.generations.get(uuid) ?? 0,
      emit: (message) => this.sent.push(message),
      onChanged: () => this.changed++,
      onEnd: (entry, result) => this.ends.push({ entry, result }),
      concurrencyMax: 2,
      waitingMax: 1,
      ...this.#options
    })
  }
}

/** A promise and its ends. */
export function gate(): { readonly promise: Promise<void>; open(): void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { promise, open: resolve }
}
