// Names the numbers of calls about the guest and its agent (libvirt-domain.h, libvirt-qemu.h).

/** Where addresses come from: the network's DHCP leases, the agent, or the host's neighbour table. */
export const addressSource = { lease: 0, agent: 1, arp: 2 } as const
export const ipAddressType = { ipv4: 0, ipv6: 1 } as const
/** Instead of seconds. */
export const agentTimeout = { block: -2, default: -1, noWait: 0 } as const
export const guestInfoType = {
  users: 1,
  operatingSystem: 2,
  timezone: 4,
  hostname: 8,
  fileSystems: 16,
  disks: 32,
  interfaces: 64,
  load: 128
} as const
