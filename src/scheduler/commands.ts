// Makes commands: generation, claims, signature, a durable record; then wakes whoever delivers them.

import { randomUUIDv7 } from 'node:crypto'
import { HostletError } from '../errors.ts'
import type { Clock } from '../lib/clock.ts'
import { untilAborted } from '../lib/deadline.ts'
import { KeyedLock } from '../lib/keyed-lock.ts'
import type { Logger } from '../lib/log.ts'
import { operationStatesEnded } from '../protocol/api.ts'
import type { CommandClaims } from '../protocol/command.ts'
import type { PlacementView } from '../protocol/placement.ts'
import { endOfRevoked } from './consequences.ts'
import { readApproval } from './read-approval.ts'
import type { CommandRecord, HostRecord, Repeatable, Store, VmIntent } from './store/store.ts'

/** How often a wait looks by itself, for changes that another process made. */
const recheckMs = 5_000

export interface CommandRequest {
  readonly verb: string
  readonly host: HostRecord
  /** The VM that the command changes. */
  readonly vm?: { readonly name: string; readonly uuid: string }
  /** Name of the VM that the command is about without changing it: of no generation. */
  readonly about?: string | undefined
  readonly arguments: Record<string, unknown>
  readonly intent: VmIntent
  readonly placement?: PlacementView | undefined
  readonly repeatable: Repeatable | undefined
}

export interface CommandsOptions {
  readonly store: Store
  readonly signer: { sign(claims: CommandClaims): Promise<string> }
  readonly delivery: { wake(host: string): void }
  readonly expireAfterMs: number
  readonly clock: Clock
  readonly log: Logger
}

export class Commands {
  readonly #options: CommandsOptions
  readonly #locks = new KeyedLock()

  constructor(options: CommandsOptions) {
    this.#options = options
  }

  /**
   * Durable when it resolves. Throws E_UNSUPPORTED when the host's agent does not know the verb, and as the store's `add`
   * does.
   */
  async create(request: CommandRequest): Promise<CommandRecord> {
    const { store, delivery, log } = this.#options
    assertAble(request)
    // Generations must reach the host in the order in which they were drawn.
    await using _held = await this.#locks.acquire(request.vm?.name ?? randomUUIDv7())
    const vm = request.vm && {
      ...request.vm,
      generation: await store.commands.nextGeneration(request.vm.name)
    }
    const claims = this.#claims(request, vm)
    const record = await store.commands.add({
      id: claims.id,
      verb: request.verb,
      host: request.host.id,
      vm,
      about: request.about,
      jws: await this.#options.signer.sign(claims),
      createdAt: claims.issuedAt,
      expiresAt: claims.expiresAt,
      intent: request.intent,
      placement: request.placement,
      repeatable: request.repeatable
    })
    log.info({ command: record.id, verb: record.verb, host: record.host, vm: record.vm }, 'command created')
    delivery.wake(record.host)
    return record
  }

  /** The command once it has ended, or as it is when the time is over. Undefined when there is none. */
  async wait(id: string, timeoutMs: number, signal: AbortSignal): Promise<CommandRecord | undefined> {
    const { store, clock } = this.#options
    const until = clock.monotonic() + timeoutMs
    for (;;) {
      const changed = Promise.withResolvers<void>()
      using _listener = store.commands.onChange((other) => other === id && changed.resolve())
      const record = await store.commands.find(id)
      const leftMs = until - clock.monotonic()
      if (record === undefined || operationStatesEnded.includes(record.state) || leftMs <= 0) return record
      using _timer = clock.timer(Math.min(leftMs, recheckMs), changed.resolve)
      await untilAborted(changed.promise, signal)
    }
  }

  /** Ends what a host has not ended and, being revoked, never will. */
  async endAllOf(host: string): Promise<void> {
    const { store, clock, log } = this.#options
    for (const record of await store.commands.openOf(host)) {
      const { error, consequence } = endOfRevoked(record)
      if (await store.commands.failed(record, error, clock.now(), consequence))
        log.warn(
          { command: record.id, host, vm: record.vm, code: error.code },
          'command of a revoked host ended'
        )
    }
  }

  /**
   * Keeps an approval of an operation and has its host asked again. Throws E_BAD_REQUEST for what is none of this very
   * command, E_CONFLICT when the operation has ended. Whose signature it is, only the host can tell.
   */
  async approve(record: CommandRecord, jws: string, from: string): Promise<void> {
    const { store, clock, log, delivery } = this.#options
    if (record.jws === undefined) throw hasEnded(record)
    const { approver } = readApproval(jws, record.jws)
    const approval = { approver, jws, receivedAt: clock.now(), receivedFrom: from }
    if (!(await store.approvals.add(record.id, approval))) throw hasEnded(record)
    log.info({ command: record.id, host: record.host, approver }, 'approval received')
    delivery.wake(record.host)
  }

  #claims(
    request: CommandRequest,
    vm: { name: string; uuid: string; generation: number } | undefined
  ): CommandClaims {
    const issuedAt = this.#options.clock.now()
    return {
      id: randomUUIDv7(),
      verb: request.verb,
      audience: request.host.id,
      issuedAt,
      expiresAt: issuedAt + this.#options.expireAfterMs,
      ...(vm === undefined ? {} : { subject: { vm: vm.name, uuid: vm.uuid, generation: vm.generation } }),
      arguments: request.arguments
    }
  }
}

function assertAble({ host, verb }: CommandRequest): void {
  const verbs = host.report?.verbs
  if (verbs === undefined || verbs.includes(verb)) return
  throw new HostletError(
    'E_UNSUPPORTED',
    `the agent of host ${host.id}, version ${host.report?.agentVersion ?? 'unknown'}, does not know ${verb}. Upgrade it.`
  )
}

function hasEnded({ id }: CommandRecord): HostletError {
  return new HostletError(
    'E_CONFLICT',
    `operation ${id} has ended: there is nothing to approve any more. See "hostlet op show ${id}".`
  )
}
