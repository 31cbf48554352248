// Checks of the network: our rules, those of others that get in the way, and what the kernel must do with packets.

import { foreignForwardFaults } from '../../firewall/foreign-chains.ts'
import { type Check, fail, over, pass, skip, warn } from '../check.ts'

const faultsShown = 3

export const networkChecks: readonly Check[] = [
  {
    id: 'nftables',
    title: 'nftables',
    judge: ({ firewall }) =>
      'value' in firewall
        ? pass('can be read')
        : skip(`${firewall.unreadable}: run as root to have the firewall checked`)
  },
  {
    id: 'firewall',
    title: 'rules of hostlet in force',
    judge: ({ firewall, config, libvirt }) =>
      over(firewall, ({ tables }) => {
        const table = tableName(config)
        const missing = ['inet', 'bridge'].filter((family) => !tables.includes(`${family} ${table}`))
        if (missing.length === 0) return pass(`tables inet and bridge ${table}`)
        const vms = 'value' in libvirt ? libvirt.value.vms.length : 0
        const text = `no table ${missing.map((family) => `${family} ${table}`).join(', ')}`
        const fix = {
          run: 'systemctl restart hostlet',
          note: 'it puts them back by itself, VMs run on; journalctl -u hostlet -p warning says why it could not.'
        }
        return vms > 0 ? fail(text, fix) : warn(`${text}: the agent has not run yet`, fix)
      })
  },
  {
    id: 'foreign-chains',
    title: "others' rules about forwarding",
    judge: ({ firewall, config, bridges }) =>
      over(firewall, ({ objects }) => {
        const shared = Object.values(config.profiles).flatMap(({ bridge, ownBridge }) =>
          ownBridge ? [] : [bridge]
        )
        const up = 'value' in bridges ? bridges.value.map(({ name }) => name) : []
        const own = { table: tableName(config), bridges: [...new Set([...shared, ...up])] }
        const faults = foreignForwardFaults(objects, own).map(
          ({ chain, effect, by }) => `${chain} ${effect}s all by ${by === 'policy' ? 'its policy' : 'a rule'}`
        )
        if (faults.length === 0) return pass('none that drop or accept all')
        const more = faults.length > faultsShown ? ` and ${faults.length - faultsShown} more` : ''
        return warn(
          `${faults.slice(0, faultsShown).join('; ')}${more}`,
          'What they drop never reaches a VM, whatever hostlet allows: allow the bridges of hostlet there (ufw route allow, DOCKER-USER). What they accept hostlet still drops.'
        )
      })
  },
  {
    id: 'ip-forward',
    title: 'forwarding',
    judge: ({ ipForward }) =>
      over(ipForward, (on) =>
        on
          ? pass('on')
          : fail('off: no VM reaches anything', {
              run: "echo 'net.ipv4.ip_forward = 1' > /etc/sysctl.d/60-hostlet.conf && sysctl --system"
            })
      )
  },
  {
    id: 'br-netfilter',
    title: 'br_netfilter',
    judge: ({ bridgeNetfilter }) =>
      over(bridgeNetfilter, (on) =>
        on
          ? warn(
              "on: iptables rules of others (Docker's, kube-proxy's) see and may drop what passes within a bridge",
              {
                run: 'sysctl net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 net.bridge.bridge-nf-call-arptables=0',
                note: "where nothing else needs it: Docker and Proxmox's firewall do, and then it stays."
              }
            )
          : pass('off')
      )
  },
  {
    id: 'ipv6',
    title: 'IPv6 shut on our bridges',
    judge: ({ bridges }) =>
      over(bridges, (all) => {
        if (all.length === 0) return skip('no bridge of ours is up')
        const open = all.filter(
          ({ ipv6Disabled, ipv6Addresses }) => !ipv6Disabled || ipv6Addresses.length > 0
        )
        return open.length === 0
          ? pass(all.map(({ name }) => name).join(', '))
          : fail(`${open.map(({ name }) => name).join(', ')} has IPv6: the host can be reached by it`, {
              run: open.map(({ name }) => `sysctl net.ipv6.conf.${name}.disable_ipv6=1`).join(' && '),
              note: 'libvirt sets it when it starts the network.'
            })
      })
  }
]

/** The section is the firewall's own; a configuration without it has its default. */
function tableName(config: object): string {
  const network = 'network' in config ? (config.network as { table?: unknown }) : undefined
  return typeof network?.table === 'string' ? network.table : 'hostlet'
}
