// Sends a host what waits for it, oldest first, one at a time.

import type { SchedulerMessage } from '../../protocol/messages.ts'
import type { CommandStore } from '../store/store.ts'

export interface Delivery {
  readonly host: string
  readonly commands: Pick<CommandStore, 'undelivered' | 'sent'>
  now(): number
  send(message: SchedulerMessage): Promise<boolean>
  /** The last command that this connection has sent. */
  readonly after: string | undefined
  /** Also what the host acknowledged and has not ended: an agent that was restarted may have lost it. */
  readonly taken: boolean
}

/** Resolves with the last command sent, when nothing waits or the socket takes no more. */
export async function deliver(delivery: Delivery): Promise<string | undefined> {
  const { host, commands, now, send, taken } = delivery
  let after = delivery.after
  for (;;) {
    const next = await commands.undelivered(host, { now: now(), after, taken })
    if (next === undefined) return after
    // Recorded first: a command counts as possibly known to its host from here on.
    await commands.sent(next.id, now())
    if (next.jws !== undefined && !(await send({ type: 'command', jws: next.jws }))) return after
    after = next.id
  }
}
