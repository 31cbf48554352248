// host.rotate-key: another key under which disk keys are wrapped, and for which secrets of commands are sealed.

import { Type } from '../../lib/schema.ts'
import { strict, Uuid } from '../../protocol/names.ts'
import type { Host } from '../host/host.ts'
import { retiredKeyMs } from '../keys/host-key.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'

const keysMax = 4_096
const KeyName = Type.String({ maxLength: 64 })

export const hostRotateKey = defineVerb<Host>()({
  name: 'host.rotate-key',
  summary: "Replaces the host's key of secrets, and wraps the keys of all disks under the new one.",
  lock: 'none',
  changes: false,
  deadlineMs: 300_000,
  afterCrash: 'resume',
  params: Type.Object({}, strict),
  result: Type.Object(
    {
      /** RFC 7638 thumbprints of the public keys. */
      before: KeyName,
      now: KeyName,
      /** How many disk keys were wrapped anew. */
      rewrapped: Type.Integer({ minimum: 0 }),
      /** Disk keys that neither the old key nor the new one opens. */
      unreadable: Type.Array(Uuid, { maxItems: keysMax })
    },
    strict
  ),
  steps: (_params, host) => [
    {
      name: 'replace the key',
      apply: async (operation) => {
        const { rewrapped, unreadable, ...names } = await host.keys.rotateHostKey(operation.signal)
        const listed = unreadable.slice(0, keysMax)
        return { rotated: { ...names, rewrapped: rewrapped.length, unreadable: listed } }
      }
    }
  ],
  outcome: (_params, _host, { notes }) =>
    Promise.resolve(notes.rotated as { before: string; now: string; rewrapped: number; unreadable: string[] })
})

export const document: VerbDocument = {
  errors: {
    E_UNSUPPORTED: 'systemd gives the host its key: the message says how to rotate that',
    E_UNAVAILABLE: 'a key file cannot be written'
  },
  crash:
    'Both keys are kept until every disk key is wrapped under the new one. Half done, nothing is lost: ask again, and it goes on.',
  remarks: [
    `The old key opens what was sealed for it for ${retiredKeyMs / 86_400_000} more days, since commands may be under way; then it is destroyed.`,
    'VMs run on, and notice nothing. The scheduler learns the new public key with the next inventory.'
  ],
  example: {}
}
