// Everything that may be wrong with a host, as one table: when it holds, how bad it is, and what to do.

import { clockSkewMsMax } from '../../protocol/command.ts'
import type { conditionSeverities } from '../../protocol/messages.ts'
import type { PlanHealth } from '../backups/schedule-plan.ts'
import type { HypervisorStatus, SilentPool } from '../host/hypervisor.ts'
import type { Validity } from '../identity/certificates.ts'
import type { KeyHealth } from '../keys/key-watch.ts'
import { type InventoryHealth, inventoryRules } from './inventory-rules.ts'
import { keyRules } from './key-rules.ts'
import { namesOf } from './names.ts'

/** What is known of the host now. Undefined is not known yet, and raises nothing. */
export interface HealthFacts {
  readonly now: number
  readonly hypervisor: HypervisorStatus
  /** Scheduler's clock minus ours at its last welcome. */
  readonly clockSkewMs: number | undefined
  readonly certificate: Validity | undefined
  /** Why our own certificate is of no use, beside its dates. */
  readonly identityFault: string | undefined
  readonly pool: { readonly capacityBytes: number; readonly availableBytes: number } | undefined
  /** Whose storage does not answer. */
  readonly silentPools?: readonly SilentPool[]
  /** What the journal said when it was last asked, if it was not well. */
  readonly journalFault: string | undefined
  /** What is wrong with the audit trail. */
  readonly trailFault?: string | undefined
  /** Operations whose undo failed since the start. */
  readonly leftovers: number
  /** Whether seeds, which hold secrets of guests, lie in memory. */
  readonly seedsInMemory: boolean | undefined
  /** What is wrong with the network rules, since when. */
  readonly firewall?: { readonly message: string; readonly since: number } | undefined
  /** How the backups of each VM with a schedule stand. */
  readonly backups: readonly PlanHealth[]
  /** Whose disks' keys are not where they should be. */
  readonly keys: KeyHealth
  readonly inventory: InventoryHealth
  /** Why the host's policy, or its count of commands, cannot be relied on. */
  readonly policyFault?: string | undefined
  /** Why nobody on this host can ask the agent. */
  readonly localSocketFault?: string | undefined
  /** Why the last trust statement that came is not in force. */
  readonly trustFault?: string | undefined
}

type Severity = (typeof conditionSeverities)[number]

export interface ConditionRule {
  readonly id: string
  /** Undefined while it does not hold. */
  holds(facts: HealthFacts): { readonly severity: Severity; readonly message: string } | undefined
}

/** Certificates are backdated and commands allow for 60 s: up to here nothing is misjudged. */
export const clockSkewMsLimit = 30_000
/** Renewal begins with 30 percent of the life left: less than this means that it fails. */
export const certificateLeftRatioMin = 0.1
export const poolWarningRatio = 0.1
export const poolCriticalRatio = 0.03
/** A daemon that restarts is back sooner: the log and the heartbeat say so, and nobody is woken. */
export const hypervisorAwayMsMax = 30_000

/** Failed runs in a row that are worth a word, and those that are worth waking somebody. */
export const failedBackupsMin = 2
export const failedBackupsCritical = 6

export const conditionRules: readonly ConditionRule[] = [
  {
    id: 'hypervisor-away',
    holds: ({ hypervisor, now }) => {
      if (hypervisor.state === 'connected' || now - hypervisor.since <= hypervisorAwayMsMax) return undefined
      return {
        severity: 'critical',
        message: `libvirt does not answer: ${hypervisor.reason}. VMs run on; look at "systemctl status libvirtd".`
      }
    }
  },
  {
    id: 'clock-skew',
    holds: ({ clockSkewMs }) =>
      clockSkewMs !== undefined && Math.abs(clockSkewMs) > clockSkewMsLimit
        ? {
            severity: Math.abs(clockSkewMs) >= clockSkewMsMax ? 'critical' : 'warning',
            message: `this host's clock is ${Math.round(Math.abs(clockSkewMs) / 1_000)} s ${clockSkewMs > 0 ? 'behind' : 'ahead of'} the scheduler's. From ${clockSkewMsMax / 1_000} s on commands are misjudged: ${clockSkewMs > 0 ? 'new ones are refused, expired ones taken' : 'they expire too early'}. Look at "timedatectl" on both machines.`
          }
        : undefined
  },
  {
    id: 'certificate',
    holds: ({ certificate, identityFault, now }) => {
      if (identityFault !== undefined) return { severity: 'critical', message: identityFault }
      if (certificate === undefined) return undefined
      const leftMs = certificate.to - now
      if (now < certificate.from)
        return {
          severity: 'critical',
          message: `this host's certificate is valid only from ${new Date(certificate.from).toISOString()}, so the host cannot connect: its clock is behind. Look at "timedatectl".`
        }
      if (leftMs > (certificate.to - certificate.from) * certificateLeftRatioMin) return undefined
      const hours = Math.max(0, Math.floor(leftMs / 3_600_000))
      return {
        severity: leftMs < 0 ? 'critical' : 'warning',
        message:
          leftMs < 0
            ? `this host's certificate expired at ${new Date(certificate.to).toISOString()}: no command reaches the host until it is renewed. VMs run on. The agent tries by itself; past the grace of the scheduler make a token with "hostlet host token" and run "hostlet enroll --force".`
            : `this host's certificate expires in ${hours} h and could not be renewed. See the log, or enroll again with "hostlet enroll --force".`
      }
    }
  },
  {
    id: 'pool-full',
    holds: ({ pool }) => {
      if (pool === undefined || pool.capacityBytes === 0) return undefined
      const ratio = pool.availableBytes / pool.capacityBytes
      if (ratio >= poolWarningRatio) return undefined
      return {
        severity: ratio < poolCriticalRatio ? 'critical' : 'warning',
        message: `the storage pool has ${Math.floor(ratio * 100)} % left. A full pool stops VMs that write: remove VMs or images, or enlarge it.`
      }
    }
  },
  {
    id: 'pool-silent',
    holds: ({ silentPools: [silent] = [] }) =>
      silent === undefined
        ? undefined
        : {
            severity: 'critical',
            message: `the storage of pool ${silent.name} at ${silent.path} does not answer since ${new Date(silent.since).toISOString()}. VMs with disks there stand still when they write, and what is asked of the pool is refused; the rest goes on. Look at its disk or file server ("dmesg", "cat /proc/mounts"); when it answers again nothing has to be restarted.`
          }
  },
  {
    id: 'journal',
    holds: ({ journalFault }) =>
      journalFault === undefined ? undefined : { severity: 'critical', message: journalFault }
  },
  {
    id: 'audit-trail',
    holds: ({ trailFault }) =>
      trailFault === undefined ? undefined : { severity: 'critical', message: trailFault }
  },
  {
    id: 'seeds-on-disk',
    holds: ({ seedsInMemory }) =>
      seedsInMemory === false
        ? {
            severity: 'warning',
            message:
              'the runtime directory is not in memory: secrets of guests are written to a disk while they boot, and may be read from it later. Put "runtimeDirectory" below /run.'
          }
        : undefined
  },
  {
    id: 'firewall',
    holds: ({ firewall }) =>
      firewall === undefined
        ? undefined
        : {
            severity: 'critical',
            message: `the network rules of VMs are not in force: ${firewall.message} VMs that run are kept apart by their bridge's isolated ports; none is started. The agent tries again by itself; look at "nft list tables" and "journalctl -u hostlet".`
          }
  },
  {
    id: 'leftovers',
    holds: ({ leftovers }) =>
      leftovers === 0
        ? undefined
        : {
            severity: 'warning',
            message: `${leftovers} failed operations could not be undone wholly. Tear their VMs down: "hostlet op ls --state failed".`
          }
  },
  {
    id: 'backup-overdue',
    holds: ({ backups }) => {
      const late = worstFirst(
        backups.filter(({ overdue }) => overdue !== 'no'),
        isCriticallyLate
      )
      if (late.length === 0) return undefined
      return {
        severity: late.some(isCriticallyLate) ? 'critical' : 'warning',
        message: `the last good backup of ${names(late)} is older than the schedule allows. See "hostlet backup ls --vm ${late[0]?.vm}" and what keeps it from running: "hostlet backup runs --vm ${late[0]?.vm}", or back it up now with "hostlet vm backup ${late[0]?.vm} --target ${late[0]?.target}".`
      }
    }
  },
  {
    id: 'backup-failed',
    holds: ({ backups }) => {
      const failing = backups.filter(({ failures }) => failures >= failedBackupsMin)
      const failed = worstFirst(failing, isFailingLong)
      const [worst] = failed
      if (worst === undefined) return undefined
      return {
        severity: failed.some(isFailingLong) ? 'critical' : 'warning',
        message: `backups of ${names(failed)} fail again and again. ${worst.vm}: ${worst.error?.message ?? 'the reason is not known'} They are tried again; mend what is named, or change the schedule.`
      }
    }
  },
  {
    id: 'policy',
    holds: ({ policyFault }) =>
      policyFault === undefined
        ? undefined
        : {
            severity: 'critical',
            message: `the rules of this host for commands cannot be relied on, and what they might forbid is refused: ${policyFault} See "hostlet policy check" on the host.`
          }
  },
  {
    id: 'trust',
    holds: ({ trustFault }) =>
      trustFault === undefined
        ? undefined
        : {
            severity: 'critical',
            message: `this host does not go by what the scheduler last said of its keys: ${trustFault} Look at "hostlet rotate ca status" and "hostlet rotate command-key status" there; a host that missed a whole rotation is enrolled anew.`
          }
  },
  {
    id: 'local-socket',
    holds: ({ localSocketFault }) =>
      localSocketFault === undefined
        ? undefined
        : {
            severity: 'warning',
            message: `"hostlet status" and "hostlet why" cannot ask the agent on its host: ${localSocketFault}. Mend that, then restart the agent; VMs run on.`
          }
  },
  ...keyRules,
  ...inventoryRules
]

function isCriticallyLate({ overdue }: PlanHealth): boolean {
  return overdue === 'critical'
}

function isFailingLong({ failures }: PlanHealth): boolean {
  return failures >= failedBackupsCritical
}

function worstFirst(plans: readonly PlanHealth[], isWorse: (plan: PlanHealth) => boolean): PlanHealth[] {
  return [...plans].sort((left, right) => Number(isWorse(right)) - Number(isWorse(left)))
}

function names(plans: readonly PlanHealth[]): string {
  return namesOf(plans.map(({ vm }) => vm))
}
