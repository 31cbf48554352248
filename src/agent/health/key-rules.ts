// What may be wrong with the keys of disks: missing here, waiting for the scheduler, or lost with this host.

import type { ConditionRule } from './conditions.ts'
import { namesOf } from './names.ts'

export const keyRules: readonly ConditionRule[] = [
  {
    id: 'disk-key-missing',
    holds: ({ keys: { missing } }) => {
      const [first] = missing
      if (first === undefined) return undefined
      return {
        severity: 'critical',
        message: `this host has no key to the disks of ${namesOf(missing)}: they cannot be started, and one that runs must not be stopped. Was the state directory lost? Bring the keys back with "hostlet vm recover-keys ${first} --key recovery.jwk".`
      }
    }
  },
  {
    id: 'keys-awaited',
    holds: ({ keys: { awaited } }) =>
      awaited.length === 0
        ? undefined
        : {
            severity: 'critical',
            message: `${namesOf(awaited)} should run and wait for their keys, which lie at the scheduler (keys: scheduler), and the scheduler is away. They start by themselves when it is back: look at "systemctl status hostlet-scheduler" there, and the network between.`
          }
  },
  {
    id: 'disk-key-unescrowed',
    holds: ({ keys: { unescrowed } }) => {
      const [first] = unescrowed
      if (first === undefined) return undefined
      return {
        severity: 'warning',
        message: `the keys of ${namesOf(unescrowed.map(({ vm }) => vm))} would be lost with this host: the scheduler has none that a recovery key opens (${first.why}). Name one as "recovery" in the policy of this host, and see "hostlet vm keys ${first.vm}".`
      }
    }
  }
]
