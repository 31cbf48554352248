// What there is of Proxmox VE on a host: read from its own files, none of which is ever written.

export interface PveStorage {
  /** `dir`, `lvmthin`, `zfspool` … */
  readonly type: string
  readonly id: string
  readonly path?: string
  readonly content: readonly string[]
}

export interface PveGuest {
  readonly vmid: number
  readonly kind: 'qemu' | 'lxc'
  readonly memoryBytes: number
  readonly startsAtBoot: boolean
  readonly bridges: readonly string[]
}

/** A stanza of /etc/network/interfaces. */
export interface PveInterface {
  readonly name: string
  /** `192.0.2.10/24`, where there is one. */
  readonly address?: string
  readonly isBridge: boolean
}

export interface PveFirewall {
  /** Of the datacenter: without it nothing is filtered. */
  readonly enabled: boolean
  /** Of this host; on unless its file says otherwise. */
  readonly hostEnabled: boolean
  readonly policyIn: string
  readonly policyForward: string
  /** proxmox-firewall, by nftables, instead of pve-firewall, by iptables. */
  readonly nftables: boolean
  /** Whether a rule lets requests of DHCP in. */
  readonly letsDhcpIn: boolean
}

export interface ProxmoxFacts {
  /** Of pve-manager: `8.2.4`. */
  readonly version: string
  /** Packages that are installed, with their versions. */
  readonly packages: Readonly<Record<string, string>>
  readonly storages: readonly PveStorage[]
  readonly guests: readonly PveGuest[]
  readonly interfaces: readonly PveInterface[]
  readonly firewall: PveFirewall
  /** Guests that high availability keeps: then this node's watchdog resets it when it loses its cluster. */
  readonly haResources: readonly string[]
  /** Most that ZFS may keep in memory; 0 without ZFS. */
  readonly arcBytesMax: number
}
