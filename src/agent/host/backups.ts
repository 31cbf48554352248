// What the hypervisor on libvirt needs for backups, joined.

import type { Connection } from 'node-libvirt'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import { BackupJobs } from './backup-jobs.ts'
import { BackupPauses } from './backup-pauses.ts'
import { Checkpoints } from './checkpoints.ts'
import type { ConnectionRole } from './connections.ts'
import type { Domains } from './domains.ts'
import { Freezes } from './freeze.ts'
import { Imports } from './imports.ts'
import type { Networks } from './networks.ts'
import { Scratch } from './scratch.ts'
import type { Secrets } from './secrets.ts'
import type { Volumes } from './volumes.ts'

export interface BackupsOptions {
  readonly connection: (role: ConnectionRole) => Connection
  readonly domains: Domains
  readonly networks: Networks
  readonly volumes: Volumes
  readonly secrets: Secrets
  readonly scratchVolumes: Volumes
  readonly scratchReserveBytes: number
  readonly runtimeDirectory: string
  readonly qemuDirectory: string
  readonly clock: Clock
  readonly log: Logger
}

export interface Backups extends AsyncDisposable {
  readonly jobs: BackupJobs
  readonly pauses: BackupPauses
  readonly checkpoints: Checkpoints
  readonly imports: Imports
}

export function createBackups(options: BackupsOptions): Backups {
  const { domains, networks, volumes, scratchVolumes, scratchReserveBytes } = options
  const pauses = new BackupPauses({ ...options, activateNetwork: networks.activate.bind(networks) })
  const checkpoints = new Checkpoints({ ...options, pauses })
  const freezes = new Freezes(options)
  const scratch = new Scratch({ ...options, volumes: scratchVolumes, reserveBytes: scratchReserveBytes })
  return {
    pauses,
    checkpoints,
    jobs: new BackupJobs({ ...options, pauses, checkpoints, freezes, scratch }),
    imports: new Imports({
      volumes,
      hypervisor: { listVms: (wait) => domains.list(wait) },
      owner: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
    }),
    [Symbol.asyncDispose]: () => freezes[Symbol.asyncDispose]()
  }
}
