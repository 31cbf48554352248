// Follows an operation to its end, telling how far it is; Ctrl-C detaches and says how to attach again.

import { asHostletError, type ErrorCode, HostletError } from '../errors.ts'
import type { OperationView } from '../protocol/api.ts'
import type { TransferProgress } from '../protocol/backup.ts'
import { apiPath } from './api-client.ts'
import type { Session } from './client-command.ts'
import { LiveBlock } from './live-block.ts'
import { formatBytes, formatDuration, formatRate, formatRatio } from './quantities.ts'
import { cut, plain } from './table.ts'

/** How long one question waits for the end: short enough that progress looks alive. */
const pollMs = 1_000
/** How long an operation is followed while its scheduler does not answer: a restart of it takes less. */
export const awayMs = 30_000
const ended: readonly string[] = ['done', 'failed', 'expired']

export interface FollowOptions {
  /** False with `--no-wait`: say what was begun, and how to follow it. */
  readonly wait: boolean
  /** The line for people when it is done. */
  readonly done: (operation: OperationView) => string
}

/**
 * Prints the operation when it has ended, and returns it as it is then. Throws what it failed with, E_UNAVAILABLE when its host never took it, and the
 * signal's reason on Ctrl-C, which leaves the operation alone.
 */
export async function follow(
  session: Session,
  begun: OperationView,
  options: FollowOptions
): Promise<OperationView> {
  const { cli } = session
  if (!options.wait) {
    cli.show({ operation: begun }, () => [
      `${title(begun)}: begun. Follow it with: hostlet op wait ${begun.id}`
    ])
    return begun
  }
  const operation = await untilEnded(session, begun)
  cli.show({ operation }, () => (operation.state === 'done' ? [plain(options.done(operation))] : []))
  const failure = failureOf(operation)
  if (failure !== undefined) throw failure
  return operation
}

/** How progress is told: by lines also on a terminal, where several are followed at once; or not at all. */
export type Telling = { readonly lines?: true; readonly quiet?: true }

/** Follows without printing the operation itself. Throws as `follow` does. */
export async function untilDone(
  session: Session,
  begun: OperationView,
  telling: Telling = {}
): Promise<OperationView> {
  const operation = await untilEnded(session, begun, telling)
  const failure = failureOf(operation)
  if (failure !== undefined) throw failure
  return operation
}

/** The error of an operation that did not get done; undefined for one that did, or has not ended. */
export function failureOf(operation: OperationView): HostletError | undefined {
  const { error } = operation
  if (operation.state === 'expired')
    return new HostletError(
      (error?.code ?? 'E_UNAVAILABLE') as ErrorCode,
      error?.message ?? `host ${operation.host} did not take ${title(operation)} in time. ${operation.next}`
    )
  if (operation.state !== 'failed') return undefined
  return error === undefined
    ? new HostletError('E_INTERNAL', `${title(operation)} failed without saying why.`)
    : new HostletError(
        error.code,
        `${title(operation)} on host ${operation.host}: ${error.message}`,
        error.details === undefined ? {} : { details: error.details }
      )
}

export function title(operation: OperationView): string {
  return operation.vm === undefined ? operation.verb : `${operation.verb} ${operation.vm}`
}

async function untilEnded(
  session: Session,
  begun: OperationView,
  telling: Telling = {}
): Promise<OperationView> {
  const { cli, signal } = session
  const teller = tellerOf(session, telling)
  let operation = begun
  try {
    while (!ended.includes(operation.state)) {
      teller.tell(operation)
      operation = await look(session, operation.id)
    }
    return operation
  } catch (error) {
    teller.end()
    if (!signal.aborted) throw lostSight(operation, error)
    cli.note(`detached: ${title(operation)} goes on. Attach again with: hostlet op wait ${operation.id}`)
    throw error
  } finally {
    teller.end()
  }
}

function tellerOf(session: Session, { lines, quiet }: Telling) {
  if (quiet) return { tell: () => undefined, end: () => undefined }
  return session.cli.noteTerminal && !lines ? new LineTeller(session) : new StepTeller(session)
}

/** One look. A scheduler that is away for less than `awayMs` is waited for: the operation goes on without it. */
async function look({ cli, client, signal }: Session, id: string): Promise<OperationView> {
  const path = `${apiPath('operations', id)}/wait`
  const request = { method: 'GET', path, query: { timeoutMs: pollMs }, waitMs: pollMs, signal } as const
  const since = cli.clock.monotonic()
  for (;;) {
    try {
      return (await client.ask(request, 'OperationReply')).operation
    } catch (error) {
      const { code } = asHostletError(error)
      const away = code === 'E_UNAVAILABLE' || code === 'E_TIMEOUT'
      if (signal.aborted || !away || cli.clock.monotonic() - since > awayMs) throw error
      await cli.clock.sleep(pollMs, signal)
    }
  }
}

/** The operation goes on, so whoever asked must look before asking anew: never a code that says to try again. */
function lostSight(operation: OperationView, cause: unknown): HostletError {
  const why = asHostletError(cause)
  if (why.code !== 'E_UNAVAILABLE' && why.code !== 'E_TIMEOUT') return why
  return new HostletError(
    'E_TIMEOUT',
    `lost sight of ${title(operation)}, which goes on (${why.message}) Attach again with "hostlet op wait ${operation.id}".`,
    { cause, details: { operation: operation.id } }
  )
}

/** `2/7 fetch image, 43 %`, or why it has not begun. */
export function progressText(operation: OperationView): string {
  if (operation.step === undefined) return operation.state === 'running' ? 'running' : operation.next
  const place = operation.steps === undefined ? '' : `${(operation.stepIndex ?? 0) + 1}/${operation.steps} `
  const ratio = operation.ratio === undefined ? '' : `, ${formatRatio(operation.ratio)}`
  const transfer = operation.transfer === undefined ? '' : `, ${transferText(operation.transfer)}`
  const note = operation.note === undefined ? '' : `, ${operation.note}`
  return plain(`${place}${operation.step}${ratio}${transfer}${note}`)
}

/** `1.2 GiB of 4 GiB, 120 MiB/s, 23.4s left`. */
export function transferText({
  doneBytes,
  totalBytes,
  bytesPerSecond,
  remainingMs
}: TransferProgress): string {
  const left = remainingMs === undefined ? '' : `, ${formatDuration(remainingMs)} left`
  return `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}, ${formatRate(bytesPerSecond)}${left}`
}

/** One line, drawn again. */
class LineTeller {
  readonly #session: Session
  readonly #block: LiveBlock
  readonly #startedMs: number

  constructor(session: Session) {
    this.#session = session
    this.#startedMs = session.cli.clock.monotonic()
    this.#block = new LiveBlock((text) => session.cli.writeNote(text))
  }

  tell(operation: OperationView): void {
    const { cli } = this.#session
    const elapsed = formatDuration(cli.clock.monotonic() - this.#startedMs)
    this.#block.draw(
      [cut(`${title(operation)}  ${progressText(operation)}  ${elapsed}`, cli.noteWidth - 1)],
      1
    )
  }

  end(): void {
    this.#block.clear()
  }
}

/** A line a step, and one for each new reason to wait, for logs. */
class StepTeller {
  readonly #session: Session
  #told = ''

  constructor(session: Session) {
    this.#session = session
  }

  tell(operation: OperationView): void {
    // A ratio, note or count of bytes at the first sight of a step would be there by accident.
    const { ratio: _ratio, note: _note, transfer: _transfer, ...step } = operation
    const text = progressText(step)
    if (text === this.#told) return
    this.#told = text
    this.#session.cli.note(`${title(operation)}: ${text}`)
  }

  end(): void {
    this.#told = ''
  }
}
