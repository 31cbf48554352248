// host.drain: takes no new work, and tells when what was taken is done.

import { HostletError } from '../../errors.ts'
import { Type } from '../../lib/schema.ts'
import { Milliseconds, strict, Timestamp } from '../../protocol/names.ts'
import { type DrainPort, defineVerb, type Operation } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'

const waitMsDefault = 24 * 3_600_000

export const hostDrain = defineVerb<unknown>()({
  name: 'host.drain',
  summary: 'Has the host take no new work, and waits for what it has taken to end; its VMs run on.',
  lock: 'host',
  changes: false,
  priority: 'urgent',
  deadlineMs: waitMsDefault,
  afterCrash: 'resume',
  cancellable: true,
  params: Type.Object(
    {
      /** How long to wait for what runs. Absent: a day. */
      waitMs: Type.Optional(Milliseconds)
    },
    strict
  ),
  result: Type.Object(
    {
      /** Since when it takes no new work. */
      since: Timestamp,
      /** False when host.resume ended it before all work had ended. */
      idle: Type.Boolean()
    },
    strict
  ),
  lockKey: () => 'drain',
  deadline: ({ waitMs }) => waitMs ?? waitMsDefault,
  steps: () => [
    { name: 'take no new work', apply: async (operation) => ({ since: await portOf(operation).begin() }) },
    {
      name: 'wait for what runs',
      apply: async (operation) => {
        const tell = (count: number) =>
          operation.progress({ note: `waiting for ${count} ${count === 1 ? 'operation' : 'operations'}` })
        return { idle: await portOf(operation).untilIdle(operation.signal, tell) }
      }
    }
  ],
  outcome: (_params, _host, { notes }) =>
    Promise.resolve({ since: Number(notes.since), idle: notes.idle === true })
})

/** What host.drain and host.resume need of the dispatcher. */
export function portOf({ others, verb }: Operation): DrainPort {
  if (others?.drain !== undefined) return others.drain
  throw new HostletError('E_INTERNAL', `${verb} knows of no draining`)
}

export const document: VerbDocument = {
  errors: {
    E_TIMEOUT: 'work still runs after the wait; the host goes on taking none',
    E_CANCELLED: 'the waiting was cancelled; the host goes on taking none'
  },
  crash:
    'That the host takes no new work is on disk before anything waits, and holds over restarts of agent and host. What runs is resumed, and waited for again, with the whole time.',
  remarks: [
    'What was taken before is finished, also what still waits. New commands that change something are refused with `E_UNAVAILABLE` and `reason: draining` in the details; the scheduler keeps them and sends them again until they expire. What looks, stops, removes or cancels is taken.',
    'Backups of its own do not begin. VMs that were torn down and kept are erased when their time is over.',
    'Neither the end of the wait nor cancelling it takes work again: only host.resume does.'
  ],
  example: { waitMs: 3_600_000 }
}
