// Operations that the agent begins by itself: journaled as its own, and awaited by whoever asked for them.

import { randomUUID } from 'node:crypto'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { CommandClaims, CommandResult, CommandSubject } from '../../protocol/command.ts'
import { agentStops } from './engine.ts'
import { commandLifeMsMax, type JournalEntry } from './journal.ts'

/** Stands where a command has the digest of what was signed: no command is ever taken for a repetition of it. */
export const localDigest = 'local'

export interface LocalRequest {
  readonly verb: string
  /** The VM as it is now; its generation is not raised. */
  readonly subject: CommandSubject
  readonly arguments: Readonly<Record<string, unknown>>
}

/** An operation of the agent's own that has not ended. */
export interface LocalOperation {
  readonly id: string
  readonly verb: string
  readonly subject: CommandSubject | undefined
  readonly arguments: Readonly<Record<string, unknown>>
  /** Its recorded end. Rejects with E_INTERRUPTED when the agent stops before; the next start resumes it. */
  readonly ended: Promise<CommandResult>
}

interface Waiting extends LocalOperation {
  resolve(result: CommandResult): void
  reject(reason: unknown): void
}

export function localClaims(request: LocalRequest, clock: Pick<Clock, 'now'>): CommandClaims {
  const now = clock.now()
  const { verb, subject } = request
  const frame = { id: randomUUID(), verb, subject, audience: 'self', issuedAt: now }
  return { ...frame, expiresAt: now + commandLifeMsMax, arguments: { ...request.arguments } }
}

/** Those that run or wait. Bounded by the places that the dispatcher has. */
export class LocalOperations {
  readonly #waiting = new Map<string, Waiting>()

  /** No effect for what a command asked for. */
  add({ id, origin, claims }: JournalEntry): void {
    if (origin === 'command') return
    const { promise, resolve, reject } = Promise.withResolvers<CommandResult>()
    // Nobody needs to wait for it.
    promise.catch(() => undefined)
    const { verb, subject } = claims
    this.#waiting.set(id, {
      id,
      verb,
      subject,
      arguments: claims.arguments,
      ended: promise,
      resolve,
      reject
    })
  }

  require(id: string): LocalOperation {
    const operation = this.#waiting.get(id)
    if (operation === undefined)
      throw new HostletError('E_INTERNAL', `operation ${id} is not one of the agent's own`)
    return operation
  }

  all(): LocalOperation[] {
    return [...this.#waiting.values()]
  }

  end(result: CommandResult): void {
    this.#waiting.get(result.command)?.resolve(result)
    this.#waiting.delete(result.command)
  }

  /** The agent stops. */
  leave(): void {
    for (const { reject } of this.#waiting.values()) reject(agentStops)
    this.#waiting.clear()
  }
}
