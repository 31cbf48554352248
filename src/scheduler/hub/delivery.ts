// Sends a host what waits for it, oldest first, and no more at a time than an agent looks at.

import type { SchedulerMessage } from '../../protocol/messages.ts'
import type { ApprovalStore } from '../store/approval-store.ts'
import type { CommandStore } from '../store/store.ts'

/** How long a command may stay unanswered before it is sent again: an agent that is overrun refuses without saying what. */
export const unansweredMs = 30_000
/** Commands that are out and unanswered; an agent looks at twice as many. */
export const unansweredMax = 32

export interface Delivery {
  readonly host: string
  readonly connection: string
  /** The run of the agent that the connection leads to. */
  readonly instance: string
  readonly commands: Pick<CommandStore, 'undelivered' | 'sent'>
  readonly approvals: Pick<ApprovalStore, 'of'>
  now(): number
  /** Whether the connection takes more. */
  isOpen(): boolean
  send(message: SchedulerMessage): Promise<boolean>
}

/** Resolves when nothing is to be sent now, or the connection takes no more. */
export async function deliver(delivery: Delivery): Promise<void> {
  const { host, connection, instance, commands, send } = delivery
  while (delivery.isOpen()) {
    const now = delivery.now()
    const unansweredBefore = now - unansweredMs
    const courier = { host, connection, instance, now, unansweredBefore, unansweredMax }
    const next = await commands.undelivered(courier)
    if (next === undefined) return
    // Recorded first: a command counts as possibly known to its host from here on.
    const isOpen = await commands.sent(next.id, courier)
    if (!isOpen || next.jws === undefined) continue
    const approvals = (await delivery.approvals.of(next.id)).map(({ jws }) => jws)
    const message = { type: 'command', jws: next.jws, ...(approvals.length > 0 && { approvals }) } as const
    if (!(await send(message))) return
  }
}
