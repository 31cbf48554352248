// host.resume: ends a drain.

import { Type } from '../../lib/schema.ts'
import { strict } from '../../protocol/names.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'
import { portOf } from './host-drain.ts'

export const hostResume = defineVerb<unknown>()({
  name: 'host.resume',
  summary: 'Has a host that was drained take work again.',
  lock: 'none',
  changes: false,
  priority: 'urgent',
  deadlineMs: 60_000,
  afterCrash: 'resume',
  params: Type.Object({}, strict),
  /** Whether it was being drained. */
  result: Type.Object({ resumed: Type.Boolean() }, strict),
  steps: () => [],
  outcome: async (_params, _host, operation) => ({ resumed: await portOf(operation).end() })
})

export const document: VerbDocument = {
  errors: {},
  crash: 'On disk before it is answered. Not journaled by itself: ask again when there was no answer.',
  remarks: [
    'A host.drain that still waits ends with `idle: false`. `resumed: false` says that the host took work anyway.',
    'Commands that were refused meanwhile come again by themselves; backups of its own that are due begin.'
  ],
  example: {}
}
