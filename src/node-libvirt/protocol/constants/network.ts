// Names the numbers of networks, network filters and secrets (libvirt-network.h, libvirt-nwfilter.h,
// libvirt-secret.h).

export const networkDefineFlag = { validate: 1 } as const
export const networkCreateFlag = { validate: 1 } as const
export const networkXmlFlag = { inactive: 1 } as const
export const networkPortCreateFlag = { reclaim: 1, validate: 2 } as const

export const networkListFlag = {
  inactive: 1,
  active: 2,
  persistent: 4,
  transient: 8,
  autostart: 16,
  noAutostart: 32
} as const

export const networkUpdateCommand = { modify: 1, delete: 2, addLast: 3, addFirst: 4 } as const
export const networkUpdateSection = {
  bridge: 1,
  domain: 2,
  ip: 3,
  ipDhcpHost: 4,
  ipDhcpRange: 5,
  forward: 6,
  forwardInterface: 7,
  forwardPhysicalFunction: 8,
  portGroup: 9,
  dnsHost: 10,
  dnsTxt: 11,
  dnsSrv: 12
} as const
export const networkUpdateFlag = { current: 0, live: 1, config: 2 } as const

export const networkEventType = { defined: 0, undefined: 1, started: 2, stopped: 3 } as const

export const nwfilterDefineFlag = { validate: 1 } as const
export const nwfilterBindingCreateFlag = { validate: 1 } as const

export const secretDefineFlag = { validate: 1 } as const
export const secretUsageType = { none: 0, volume: 1, ceph: 2, iscsi: 3, tls: 4, vtpm: 5 } as const
export const secretListFlag = { ephemeral: 1, noEphemeral: 2, private: 4, noPrivate: 8 } as const
export const secretEventType = { defined: 0, undefined: 1 } as const
