// Backups as verbs see them: everything about repositories that a step may use, made once for the host.

import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { Hypervisor } from '../host/hypervisor.ts'
import type { SealedDisks } from '../keys/sealed-disks.ts'
import { Catalog } from './catalog.ts'
import { BackupErasure } from './erasure.ts'
import { Maintenance } from './maintenance.ts'
import type { GoodBackups } from './records.ts'
import { type HostIdentity, Repositories, type RepositoriesOptions } from './repositories.ts'
import { Restorer } from './restorer.ts'
import { BackupRunner } from './runner.ts'

/** The parts of the agent's configuration that are about backups. */
export interface BackupConfig {
  readonly policy: string
  readonly compressionLevel: number
  readonly bytesPerSecondMax?: number | undefined
  readonly freezeMs: number
}

/** What only a whole agent has. */
export interface BackupParts {
  readonly good: GoodBackups
  /** Of this process. */
  readonly instance: string
  identity(): HostIdentity | undefined
  /** Where systemd has put the unit's credentials. */
  readonly credentialsDirectory?: string | undefined
  /** For tests; by the address of the repository otherwise. */
  readonly openStore?: RepositoriesOptions['openStore']
  readonly workers?: number | undefined
}

export interface BackupsOptions extends BackupParts {
  readonly config: BackupConfig
  readonly hypervisor: Hypervisor
  readonly stateDirectory: string
  readonly runtimeDirectory: string
  readonly sealed: SealedDisks
  readonly hostId: string
  readonly agentVersion: string
  readonly clock: Clock
  readonly log: Logger
}

export interface Backups {
  readonly repositories: Repositories
  readonly runner: BackupRunner
  readonly catalog: Catalog
  readonly restorer: Restorer
  readonly maintenance: Maintenance
  readonly erasure: BackupErasure
  readonly good: Pick<GoodBackups, 'lastGood'>
}

export function createBackups(options: BackupsOptions): Backups {
  const { config, agentVersion } = options
  const repositories = new Repositories({ ...options, policyPath: config.policy })
  const catalog = new Catalog({ ...options, repositories })
  return {
    repositories,
    catalog,
    good: options.good,
    runner: new BackupRunner({ ...options, ...config, repositories, tool: `hostlet ${agentVersion}` }),
    restorer: new Restorer({ ...options, catalog, repositories }),
    maintenance: new Maintenance({ ...options, repositories, catalog }),
    erasure: new BackupErasure({ ...options, repositories })
  }
}

/** For a host without an agent around it: what was backed up is remembered only as long as this lives. */
export function backupPartsInMemory(): BackupParts {
  const good = new Map<string, Map<string, Parameters<GoodBackups['keepGood']>[2]>>()
  return {
    instance: 'memory',
    identity: () => undefined,
    good: {
      lastGood: (uuid, target) => good.get(uuid)?.get(target),
      keepGood: (uuid, target, made) => good.set(uuid, (good.get(uuid) ?? new Map()).set(target, made)),
      allGood: (uuid) => good.get(uuid) ?? new Map(),
      dropCheckpoint: (uuid, target) => {
        const known = good.get(uuid)?.get(target)
        if (known !== undefined) good.get(uuid)?.set(target, { ...known, checkpoint: null })
      },
      forgetGood: (uuid, target) => good.get(uuid)?.delete(target),
      isUsed: (target) => [...good.values()].some((of) => of.has(target)),
      noteDamage: (uuid, target, damage) => {
        const known = good.get(uuid)?.get(target)
        if (known !== undefined) good.get(uuid)?.set(target, { ...known, damage })
      }
    }
  }
}
