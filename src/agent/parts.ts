// What every part of the agent is made of, before the parts know of one another.

import type { Clock } from '../lib/clock.ts'
import type { OutputLogger } from '../lib/log-output.ts'
import type { BackupRecords } from './backups/records.ts'
import type { AgentConfig } from './config.ts'
import type { Host } from './host/host.ts'
import type { Hypervisor } from './host/hypervisor.ts'
import type { CurrentIdentity } from './identity/trust-keeper.ts'
import type { KnownVms } from './inventory/known-vms.ts'
import type { LocalServer } from './local/server.ts'
import type { Journal } from './operations/journal.ts'
import type { SessionOptions } from './session/session.ts'
import type { Trail } from './trail/trail.ts'

export interface Parts {
  readonly config: AgentConfig
  readonly clock: Clock
  readonly log: OutputLogger
  readonly random: () => number
  readonly identity: CurrentIdentity
  /** Stands for this machine; undefined where nothing does. */
  readonly machine: string | undefined
  readonly journal: Journal
  readonly trail: Trail
  /** Where this host itself may look; absent in tests that do not. */
  readonly local?: LocalServer
  /** For tests; a socket over TLS otherwise. */
  readonly connect?: SessionOptions['connect']
}

export interface HostParts extends Parts {
  readonly records: BackupRecords
  readonly hypervisor: Hypervisor
  readonly host: Host
  readonly known: KnownVms
}
