// Everything that "hostlet doctor" knows of a host. Readers fill it in; checks only look at it.

import type { AgentConfig } from '../config.ts'
import type { NftObject } from '../firewall/nft-json.ts'
import type { LibvirtSurvey } from '../host/libvirt-survey.ts'
import type { OrphanReport } from '../orphans/orphans.ts'
import type { Reading } from './check.ts'
import type { FileSystemName } from './file-systems.ts'

/** A directory or file, and on what it lies. */
export interface Place {
  readonly path: string
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly fileSystem: FileSystemName | undefined
  readonly inMemory: boolean
  /** Whether all of its blocks are encrypted (dm-crypt); undefined where that cannot be told. */
  readonly encrypted: boolean | undefined
}

/** Settings of a file of libvirt's, as they are written: `"text"`, `0`, `[ ]`. Those that are commented out are absent. */
export type Settings = Readonly<Record<string, string>>

export interface SwapArea {
  readonly name: string
  /** zram keeps it in memory; dm-crypt encrypts it. */
  readonly safe: boolean
}

/** What became of a question to the storage of a pool, within some seconds. `read`: it may not be written by who asks. */
export interface PoolAnswer {
  readonly path: string
  readonly answer: 'written' | 'read' | 'none'
}

export interface BridgeFacts {
  readonly name: string
  readonly ipv6Disabled: boolean
  readonly ipv6Addresses: readonly string[]
}

export interface FirewallFacts {
  /** Of `nft -j list ruleset`. */
  readonly objects: readonly NftObject[]
  /** `inet hostlet`, `bridge hostlet`. */
  readonly tables: readonly string[]
}

/** What the host's policy says, in numbers, or its first fault. */
export type PolicyFacts =
  | {
      readonly recoveryKeys: number
      readonly repositories: number
      /** Rules for commands, each in a few words. */
      readonly rules: readonly string[]
    }
  | { readonly fault: string }

export interface DoctorFacts {
  readonly config: AgentConfig
  readonly libvirt: Reading<LibvirtSurvey>
  /** Debian's version of the package of QEMU; null where there is none. */
  readonly qemuPackage: Reading<string | null>
  readonly qemuConf: Reading<Settings>
  /** libvirtd.conf and virtqemud.conf, by name. */
  readonly daemonConf: Reading<Readonly<Record<string, Settings>>>
  readonly guestsService: Reading<{ readonly enabled: boolean; readonly onShutdown: string | undefined }>
  readonly kvm: Reading<{ readonly mode: number } | null>
  readonly nested: Reading<boolean>
  readonly places: {
    readonly logs: Reading<Place>
    readonly keys: Reading<Place>
    readonly runtime: Reading<Place>
    readonly state: Reading<Place>
    readonly pool: Reading<Place>
  }
  /** Of the pool of the disks, and that of scratch files where it is another one; those that are there. */
  readonly poolAnswers: Reading<readonly PoolAnswer[]>
  /** Bytes in use and of the file system of QEMU's logs. */
  readonly logSpace: Reading<{ readonly sizeBytes: number; readonly freeBytes: number }>
  /** Group and user of the agent; undefined where the user does not exist. */
  readonly agentUser: Reading<{ readonly uid: number; readonly gid: number } | null>
  /** Files below libvirt's directories of saved machines and of dumps. */
  readonly memoryImages: Reading<readonly string[]>
  readonly keyFiles: Reading<readonly { readonly path: string; readonly mode: number }[]>
  /** Names of credentials that drop-ins of the unit load encrypted. */
  readonly credentials: Reading<readonly string[]>
  readonly tpm: Reading<boolean>
  readonly policy: Reading<PolicyFacts | null>
  readonly swap: Reading<readonly SwapArea[]>
  /** Whether the kernel can hibernate to a device that is set. */
  readonly hibernation: Reading<boolean>
  readonly corePattern: Reading<string>
  readonly lsm: Reading<readonly string[]>
  readonly cgroups: Reading<readonly string[]>
  readonly ksm: Reading<boolean>
  readonly smt: Reading<boolean>
  /** Names of faults of the processor that nothing is done about. */
  readonly vulnerabilities: Reading<readonly string[]>
  readonly hugePages: Reading<{ readonly total: number; readonly free: number }>
  readonly clockSynchronised: Reading<boolean>
  readonly firewall: Reading<FirewallFacts>
  readonly bridgeNetfilter: Reading<boolean>
  readonly ipForward: Reading<boolean>
  readonly bridges: Reading<readonly BridgeFacts[]>
  /** What the agent found of VMs that are gone, at its last look; null before the first. */
  readonly leftovers: Reading<OrphanReport | null>
  /** Accounts whose number is in the range of the VMs. */
  readonly accountsInRange: Reading<readonly string[]>
}
