// Checks of a host that Proxmox VE has too: that neither steps on the other.

import { type Check, fail, over, pass, skip, type Verdict, warn } from '../check.ts'
import type { DoctorFacts } from '../facts.ts'
import type { ProxmoxFacts } from '../proxmox-facts.ts'
import { overlaps } from '../subnets.ts'

/** Of the web interface, SPICE's proxy, VNC, migration and the cluster (pve-admin-guide, "Ports used by Proxmox VE"). */
const pvePorts = [
  { what: 'rpcbind', first: 111, last: 111 },
  { what: 'SPICE', first: 3128, last: 3128 },
  { what: 'corosync', first: 5405, last: 5412 },
  { what: 'VNC', first: 5900, last: 5999 },
  { what: 'the web interface', first: 8006, last: 8006 },
  { what: 'migration', first: 60_000, last: 60_050 }
] as const
const hostBytes = 1024 ** 3
/** Directories that Proxmox fills and prunes in a storage (storage.cfg, type dir). */
const pveDirectories = ['images', 'template', 'dump', 'snippets', 'private', 'import']

export const proxmoxChecks: readonly Check[] = [
  check('pve-packages', 'packages', ({ packages, version }) => {
    if (packages['proxmox-ve'] === undefined)
      return fail("the package proxmox-ve is gone: apt took Proxmox away for Debian's QEMU", {
        run: 'apt-get install proxmox-ve',
        note: 'and never qemu-system-x86 or qemu-utils, which pve-qemu-kvm is instead.'
      })
    return packages['qemu-system-x86'] === undefined && packages['qemu-utils'] === undefined
      ? pass(`Proxmox VE ${version}, QEMU ${packages['pve-qemu-kvm'] ?? 'unknown'}`)
      : fail("Debian's QEMU is installed beside Proxmox's", {
          run: 'apt-get install pve-qemu-kvm qemu-system-x86- qemu-utils-'
        })
  }),
  check('pve-bridges', 'bridges apart', bridges),
  check('pve-subnets', 'subnets apart', ({ interfaces }, { config: { profiles } }) => {
    const clash = interfaces.flatMap(({ name, address }) =>
      Object.entries(profiles).flatMap(([profile, { subnet }]) =>
        address !== undefined && overlaps(subnet, address) ? [{ name, address, profile, subnet }] : []
      )
    )[0]
    return clash === undefined
      ? pass('none of /etc/network/interfaces')
      : fail(`${clash.name} has ${clash.address}, within ${clash.subnet} of profile ${clash.profile}`, {
          run: 'hostlet init --subnet 10.84.0.0/16',
          note: 'or another /16 that is free.'
        })
  }),
  check('pve-firewall', 'firewall of Proxmox', ({ firewall }) => firewallVerdict(firewall)),
  check('pve-storage', 'storages apart', storage),
  check('pve-ports', 'ports apart', (_facts, { config: { network } }) => {
    const { first, last } = network.ports
    const clash = pvePorts.find((port) => port.first <= last && port.last >= first)
    return clash === undefined
      ? pass(`${first} to ${last}`)
      : fail(`${first} to ${last} holds ports of ${clash.what} (${clash.first} to ${clash.last})`, {
          run: 'hostlet init --ports 20000-29999'
        })
  }),
  check('pve-memory', 'memory of both', memory),
  check('pve-cores', 'cores of both', ({ guests }, { config: { profiles } }) => {
    const pinned = Object.keys(profiles).filter((name) => profiles[name]?.cpu === 'pinned')
    return guests.length === 0 || pinned.length === 0
      ? pass(guests.length === 0 ? 'Proxmox has no guests here' : 'no profile has cores to itself')
      : warn(
          `profile ${pinned.join(', ')} promises cores of its own, and ${guests.length} guests of Proxmox run anywhere`,
          'Keep those guests off them (qm set VMID --affinity 0-3), or VMs on profiles with cpu: shared.'
        )
  }),
  check('pve-ha', 'high availability', ({ haResources }) =>
    haResources.length === 0
      ? pass('not used: no watchdog resets this node')
      : warn(
          `${haResources.length} guests are kept by it: a node that loses its cluster is reset, with all VMs of hostlet`,
          'Keep guests with HA on nodes without hostlet, or remove them from it: ha-manager remove vm:VMID.'
        )
  )
]

/** Skipped where there is no Proxmox. */
function check(
  id: string,
  title: string,
  judge: (proxmox: ProxmoxFacts, facts: DoctorFacts) => Verdict
): Check {
  return {
    id,
    title,
    judge: (facts) =>
      over(facts.proxmox, (proxmox) =>
        proxmox === null ? skip('no Proxmox VE here') : judge(proxmox, facts)
      )
  }
}

function bridges({ guests, interfaces }: ProxmoxFacts, { config: { profiles } }: DoctorFacts): Verdict {
  const isOurs = (name: string) =>
    Object.values(profiles).some(({ bridge, ownBridge }) =>
      ownBridge ? name.startsWith(bridge) : name === bridge
    )
  const theirs = interfaces.find(({ name }) => isOurs(name))
  if (theirs !== undefined)
    return fail(
      `${theirs.name} stands in /etc/network/interfaces and is a bridge of a profile`,
      'Give the profile another bridge in /etc/hostlet/agent.yaml: those of Proxmox are not for VMs of hostlet.'
    )
  const guest = guests.find(({ bridges: used }) => used.some(isOurs))
  return guest === undefined
    ? pass(
        `${
          interfaces
            .filter(({ isBridge }) => isBridge)
            .map(({ name }) => name)
            .join(', ') || 'none'
        } are Proxmox's`
      )
    : fail(
        `guest ${guest.vmid} of Proxmox is on a bridge of hostlet's, and past its rules`,
        `Put it on a bridge of Proxmox's: ${guest.kind === 'qemu' ? 'qm' : 'pct'} set ${guest.vmid} --net0 …,bridge=vmbr0.`
      )
}

function firewallVerdict({ enabled, hostEnabled, ...firewall }: ProxmoxFacts['firewall']): Verdict {
  if (!enabled) return pass('off: hostlet has its own')
  const { policyIn, policyForward, nftables, letsDhcpIn } = firewall
  // pve-firewall, by iptables, knows no such policy.
  if (nftables && policyForward !== 'ACCEPT')
    return fail(
      `policy_forward is ${policyForward}: nothing of VMs gets through`,
      'Set policy_forward: ACCEPT under [OPTIONS] of /etc/pve/firewall/cluster.fw: hostlet filters its VMs itself.'
    )
  if (hostEnabled && policyIn !== 'ACCEPT' && !letsDhcpIn)
    return fail(
      `it lets no DHCP in (policy_in ${policyIn}): VMs get no address`,
      'Add "IN ACCEPT -p udp -dport 67 -sport 68" under [RULES] of /etc/pve/local/host.fw. It takes effect within seconds.'
    )
  return pass(`on (${nftables ? 'nftables' : 'iptables'}), and lets VMs through`)
}

function storage({ storages }: ProxmoxFacts, { config: { pool } }: DoctorFacts): Verdict {
  const inside = storages.find(({ path }) => path !== undefined && `${pool.path}/`.startsWith(`${path}/`))
  if (inside?.path === undefined) return pass(`${pool.path} is in none of Proxmox's`)
  const [next = ''] = pool.path.slice(inside.path.length + 1).split('/')
  return next === '' || pveDirectories.includes(next)
    ? fail(`${pool.path} is where Proxmox keeps files of storage ${inside.id}, and removes them`, {
        run: `hostlet init --pool-path ${inside.path}/hostlet`,
        note: 'or, better, a file system of its own. Before the first VM.'
      })
    : warn(
        `${pool.path} lies in storage ${inside.id}: both fill the same file system`,
        'Give the pool a file system of its own: an LVM volume with ext4, mounted there.'
      )
}

function memory({ guests, arcBytesMax }: ProxmoxFacts, { config, memoryBytes }: DoctorFacts): Verdict {
  return over(memoryBytes, (total) => {
    const needed = reserveBeside({ guests, arcBytesMax })
    const promised = needed - arcBytesMax - hostBytes
    const text = `${gibibytes(promised)} of guests of Proxmox, ${gibibytes(arcBytesMax)} of ZFS`
    if (needed >= total)
      return fail(
        `${text}: nothing is left of ${gibibytes(total)} for VMs of hostlet`,
        'Move guests away, or give them and ZFS less (zfs_arc_max in /etc/modprobe.d/zfs.conf).'
      )
    return config.reserve.memoryBytes < needed
      ? fail(
          `${text}, and ${gibibytes(config.reserve.memoryBytes)} in reserve: both promise the same memory`,
          {
            run: `hostlet init --reserve-memory ${Math.ceil(needed / hostBytes)}GiB`
          }
        )
      : pass(`${text}, kept in reserve`)
  })
}

/** What a host must keep from VMs of hostlet, for guests of Proxmox and for ZFS. */
export function reserveBeside({ guests, arcBytesMax }: Pick<ProxmoxFacts, 'guests' | 'arcBytesMax'>): number {
  return guests.reduce((sum, guest) => sum + guest.memoryBytes, 0) + arcBytesMax + hostBytes
}

function gibibytes(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`
}
