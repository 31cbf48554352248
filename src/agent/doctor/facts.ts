// Everything that "hostlet doctor" knows of a host. Readers fill it in; checks only look at it.

import type { AgentConfig } from '../config.ts'
import type { NftObject } from '../firewall/nft-json.ts'
import type { LibvirtSurvey } from '../host/libvirt-survey.ts'
import type { OrphanReport } from '../orphans/orphans.ts'
import type { Reading } from './check.ts'
import type { FileSystemName } from './file-systems.ts'
import type { ProxmoxFacts } from './proxmox-facts.ts'

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

/** What the file system of a pool has. */
export interface PoolSpace {
  readonly path: string
  readonly sizeBytes: number
  /** To everybody; what is kept for root is not in it. */
  readonly freeBytes: number
  readonly reservedBytes: number
  /** 0 where the file system does not count them. */
  readonly inodes: number
  readonly inodesFree: number
  /** Whether the root of the host lies on it too. */
  readonly isRoot: boolean
}

/** A network device of the host. */
export interface LinkFacts {
  readonly name: string
  readonly isBridge: boolean
  /** Devices of hardware in a bridge: what leads out of the host. */
  readonly hardwarePorts: readonly string[]
}

/** IPv4; a network that is on the device itself has no gateway. */
export interface RouteFacts {
  readonly device: string
  /** `10.0.0.0/8` */
  readonly network: string
  readonly hasGateway: boolean
}

export interface IdentityFacts {
  readonly hostId: string
  readonly from: number
  readonly to: number
  /** Why the certificate is of no use: chain, key, name or time. */
  readonly fault: string | undefined
  /** Whether it was given to another machine than this. */
  readonly foreign: boolean
}

/** What became of a question to the scheduler at one of its addresses. */
export interface SchedulerAnswer {
  readonly url: string
  /** Why there was none. */
  readonly fault: string | undefined
  /** Its clock minus ours, to about a second. */
  readonly clockAheadMs: number | undefined
  /** Variables of the environment that name a proxy, none of which is heeded. */
  readonly proxyVariables: readonly string[]
}

export interface LimitFacts {
  /** Files of the agent's unit, as it and its drop-ins say; undefined where there is no unit. */
  readonly agentFiles: number | undefined
  readonly pidMax: number
  readonly aioInUse: number
  readonly aioMax: number
  readonly inotifyInstancesMax: number
  readonly filesInUse: number
  readonly filesMax: number
}

/** What "systemd-creds has-tpm2" says. */
export interface TpmFacts {
  readonly answer: 'yes' | 'partial' | 'no'
  readonly missing: readonly string[]
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
  /** `debian 12`, of /etc/os-release. */
  readonly distribution: Reading<string>
  /** Programs that the agent runs and that are not there. */
  readonly missingPrograms: Reading<readonly string[]>
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
  readonly poolSpace: Reading<readonly PoolSpace[]>
  /** Whether qemu-img makes an encrypted disk as the agent makes it, and how long that took. */
  readonly luks: Reading<{ readonly tookMs: number } | { readonly fault: string }>
  /** Null where the host is not enrolled. */
  readonly identity: Reading<IdentityFacts | null>
  /** Null where there is no scheduler to ask yet. */
  readonly scheduler: Reading<readonly SchedulerAnswer[] | null>
  readonly limits: Reading<LimitFacts>
  readonly links: Reading<readonly LinkFacts[]>
  readonly routes: Reading<readonly RouteFacts[]>
  /** TCP ports that somebody listens at. */
  readonly listening: Reading<readonly number[]>
  readonly localPorts: Reading<{ readonly first: number; readonly last: number }>
  /** Null on a host without Proxmox VE. */
  readonly proxmox: Reading<ProxmoxFacts | null>
  /** Of the host, all. */
  readonly memoryBytes: Reading<number>
  readonly now: number
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
  readonly tpmSupport: Reading<TpmFacts>
  /** 1, 2, or both at once. */
  readonly cgroupVersion: Reading<'1' | '2' | 'both'>
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
