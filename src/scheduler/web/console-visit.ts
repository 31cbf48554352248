// One visit to a VM's console: asked for, opened by its host, attached to, and its end. Knows no page.

import type { ConsoleReply, OperationReply, OperationView } from '../../protocol/api.ts'
import type { ConsoleEnd, ConsoleMode } from '../../protocol/console.ts'
import type { Api } from './api.ts'
import { ConsoleLink, type LinkHandlers, subprotocol } from './console-link.ts'
import { withQuery } from './routes.ts'

const waitMs = 20_000

/** Somebody writes on it already; `by` is not known where that is on the host itself. */
export class ConsoleTaken extends Error {
  readonly by: string | undefined
  readonly since: number | undefined

  constructor(message: string, { by, since }: Readonly<Record<string, unknown>> = {}) {
    super(message)
    this.by = typeof by === 'string' ? by : undefined
    this.since = typeof since === 'number' ? since : undefined
  }
}

export interface Wish {
  readonly vm: string
  readonly mode: ConsoleMode
  readonly takeOver: boolean
}

/**
 * Resolves with the link once its socket is being opened. Throws ConsoleTaken, and what the API or the host says against it.
 * `waits` is called while a second signature is missing.
 */
export async function visitConsole(
  api: Api,
  { vm, mode, takeOver }: Wish,
  { handlers, signal, waits }: { handlers: LinkHandlers; signal: AbortSignal; waits: (id: string) => void }
): Promise<ConsoleLink> {
  const path = `/v1/vms/${encodeURIComponent(vm)}/console`
  const body = { mode, ...(takeOver && { takeOver }) }
  const key = crypto.randomUUID()
  const { operation, socket, ticket } = await api.ask<ConsoleReply>('POST', path, { body, key, signal })
  const { state, error } = await ended(api, operation, signal, waits)
  if (state !== 'done') {
    const message = error?.message ?? `The operation is ${state}.`
    if (error?.code === 'E_CONFLICT' && mode === 'write' && !takeOver)
      throw new ConsoleTaken(message, error.details)
    throw new Error(message)
  }
  signal.throwIfAborted()
  const url = new URL(socket, location.origin)
  url.protocol = 'wss:'
  return new ConsoleLink(new WebSocket(url, subprotocol), ticket, handlers)
}

async function ended(
  api: Api,
  first: OperationView,
  signal: AbortSignal,
  waits: (id: string) => void
): Promise<OperationView> {
  let operation = first
  while (operation.state === 'waiting' || operation.state === 'sent' || operation.state === 'running') {
    if (operation.awaits === 'approval') waits(operation.id)
    const path = withQuery(`/v1/operations/${encodeURIComponent(operation.id)}/wait`, { timeoutMs: waitMs })
    operation = (await api.get<OperationReply>(path, signal)).operation
  }
  return operation
}

/** An end in words, for whoever had the session. */
export function endText({ why, message }: ConsoleEnd): string {
  if (why === 'left') return 'You left the console. The VM takes no notice.'
  return `The session has ended: ${message.replace(/\.$/, '')}.`
}
