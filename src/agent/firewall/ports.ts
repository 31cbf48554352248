// Port numbers that the rules know by themselves.

/** Dropped wherever no list names it: a host of strangers' VMs that sends mail is soon on every block list. */
export const mailPort = 25
export const dnsPort = 53
export const webPorts: readonly number[] = [80, 443]
export const dhcpServerPort = 67
export const dhcpClientPort = 68
