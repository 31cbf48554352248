// The hardened set-up of a cloud image: vendor data that shuts the guest down to SSH by key and the ports that it serves.

import { stringify } from 'yaml'
import type { Seed, VmSpecification } from '../../protocol/vm.ts'
import type { Profile } from '../profiles.ts'

const sshPort = 22
const boundary = '==hostlet-vendor-data=='
/** First in its directory, and of a repeated setting sshd takes the first: no file of the image says otherwise. */
export const sshSettingsPath = '/etc/ssh/sshd_config.d/00-hostlet.conf'
export const firewallPath = '/etc/hostlet/firewall.nft'
const firewallUnit = 'hostlet-firewall.service'

/** Unless told otherwise, exactly where the guest is not set up by user data of its own. */
export function isHardened(seed: Pick<Seed, 'userData' | 'hardened'>): boolean {
  return seed.hardened ?? seed.userData === undefined
}

/** Whether a guest can fetch packages: it reaches servers, and finds them by name. */
export function reachesPackages(vm: Pick<VmSpecification, 'network'>, profile: Profile): boolean {
  const { egress = profile.egress, dns = profile.dns } = vm.network ?? {}
  return egress.mode !== 'none' && profile.egress.mode !== 'none' && dns && profile.dns
}

/**
 * NoCloud vendor data. Its parts are such that no key of somebody's user data replaces them: where both say something of the
 * same key, cloud-init takes the user's.
 */
export function hardenedVendorData(vm: VmSpecification, { packages }: { packages: boolean }): string {
  return multipart(
    { type: 'text/cloud-config', name: 'hostlet.cfg', text: cloudConfig() },
    // Runs early, before the guest's SSH server does.
    { type: 'text/cloud-boothook', name: 'hostlet-harden', text: earlyScript(vm) },
    // Runs last, when the network is up.
    { type: 'text/x-shellscript', name: 'hostlet-finish', text: lateScript(packages) }
  )
}

export function cloudConfig(): string {
  return `#cloud-config\n${stringify({ ssh_pwauth: false, disable_root: true })}`
}

/** Only keys, and never root. */
export function sshSettings(): string {
  return [
    '# Of hostlet: only keys, and never root.',
    'PermitRootLogin no',
    'PubkeyAuthentication yes',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'PermitEmptyPasswords no',
    'AuthenticationMethods publickey',
    'X11Forwarding no',
    ''
  ].join('\n')
}

/** What may be asked of the guest: SSH, mapped ports, and those at which it is looked at. What is forwarded is not touched. */
export function firewallRules(vm: VmSpecification): string {
  const { tcp, udp } = openPorts(vm)
  const rules = [
    'ct state established,related accept',
    'ct state invalid drop',
    'iifname "lo" accept',
    'meta l4proto { icmp, ipv6-icmp } accept',
    'udp sport 67 udp dport 68 accept',
    `tcp dport { ${tcp.join(', ')} } accept`,
    ...(udp.length === 0 ? [] : [`udp dport { ${udp.join(', ')} } accept`])
  ]
  return [
    // Made before it is removed, so that the file can be loaded again and again, in one transaction.
    'table inet hostlet_guest',
    'delete table inet hostlet_guest',
    'table inet hostlet_guest {',
    '  chain input {',
    '    type filter hook input priority filter; policy drop;',
    ...rules.map((rule) => `    ${rule}`),
    '  }',
    '}',
    ''
  ].join('\n')
}

/** Bans who guesses keys, where fail2ban is there. */
export function banSettings(): string {
  const settings = ['backend = systemd', 'banaction = nftables-multiport', '', '[sshd]', 'enabled = true', '']
  return `[DEFAULT]\n${settings.join('\n')}`
}

export function upgradeSettings(): string {
  return [
    'APT::Periodic::Update-Package-Lists "1";',
    'APT::Periodic::Unattended-Upgrade "1";',
    'APT::Periodic::AutocleanInterval "7";',
    ''
  ].join('\n')
}

/** Writes the settings and takes up the firewall. Safe to run at every boot. */
export function earlyScript(vm: VmSpecification): string {
  return [
    '#!/bin/sh',
    'set -u',
    'umask 022',
    ...file(sshSettingsPath, sshSettings()),
    // Images older than the directory: the settings come first in the file itself.
    "grep -qs '^[[:space:]]*Include /etc/ssh/sshd_config.d/' /etc/ssh/sshd_config || {",
    `  { cat ${sshSettingsPath}; cat /etc/ssh/sshd_config; } >/etc/ssh/sshd_config.hostlet 2>/dev/null &&`,
    '    mv /etc/ssh/sshd_config.hostlet /etc/ssh/sshd_config',
    '}',
    ...file(firewallPath, firewallRules(vm)),
    ...file('/etc/fail2ban/jail.d/hostlet.local', banSettings()),
    ...file('/etc/apt/apt.conf.d/52hostlet-upgrades', upgradeSettings()),
    ...file(`/etc/systemd/system/${firewallUnit}`, unitFile()),
    `systemctl enable ${firewallUnit} 2>/dev/null`,
    // Without nft it comes with the packages, if they can be fetched.
    `if command -v nft >/dev/null; then nft -f ${firewallPath}; fi`,
    'exit 0',
    ''
  ].join('\n')
}

/** Fetches what the image lacks, where it can, and says what is still missing. */
export function lateScript(packages: boolean): string {
  const fetch = [
    'if command -v apt-get >/dev/null; then',
    '  export DEBIAN_FRONTEND=noninteractive',
    '  limits="-o Acquire::Retries=2 -o Acquire::http::Timeout=30 -o DPkg::Lock::Timeout=300"',
    '  apt-get -q $limits update &&',
    '    apt-get -q $limits install -y --no-install-recommends nftables fail2ban python3-systemd unattended-upgrades',
    'fi'
  ]
  return [
    '#!/bin/sh',
    'set -u',
    ...(packages ? fetch : []),
    'say() { echo "hostlet: $*" >/dev/console; echo "hostlet: $*"; }',
    `if command -v nft >/dev/null; then nft -f ${firewallPath}; else say 'this image has no nft: its firewall is not set up'; fi`,
    "[ -e /usr/bin/fail2ban-client ] || say 'fail2ban is not installed'",
    'for service in ssh sshd fail2ban; do',
    '  systemctl try-reload-or-restart "$service.service" 2>/dev/null',
    'done',
    'exit 0',
    ''
  ].join('\n')
}

function openPorts({ network, ready, health }: VmSpecification): { tcp: number[]; udp: number[] } {
  const mapped = network?.ports ?? []
  const ports = (transport: 'tcp' | 'udp') =>
    mapped.filter((each) => each.transport === transport).map(({ vmPort }) => vmPort)
  const watched = [ready?.tcpPort, ready?.http?.port, ...(health ?? []).map(({ port }) => port)]
  const tcp = [sshPort, ...ports('tcp'), ...watched.filter((port) => port !== undefined)]
  return { tcp: ascending(tcp), udp: ascending(ports('udp')) }
}

function ascending(ports: readonly number[]): number[] {
  return [...new Set(ports)].sort((left, right) => left - right)
}

/** In force before the network is. */
function unitFile(): string {
  return [
    '[Unit]',
    'Description=Firewall of hostlet: only what this machine serves',
    'DefaultDependencies=no',
    'Wants=network-pre.target',
    'Before=network-pre.target shutdown.target',
    'Conflicts=shutdown.target',
    'After=local-fs.target',
    '',
    '[Service]',
    'Type=oneshot',
    'RemainAfterExit=yes',
    `ExecStart=/usr/sbin/nft -f ${firewallPath}`,
    '',
    '[Install]',
    'WantedBy=sysinit.target',
    ''
  ].join('\n')
}

/** Lines of a script that write a file. The word that ends it is in none of ours. */
function file(path: string, content: string): string[] {
  const directory = path.slice(0, path.lastIndexOf('/'))
  return [`mkdir -p ${directory}`, `cat >${path} <<'HOSTLET_END'`, content.trimEnd(), 'HOSTLET_END']
}

interface Part {
  readonly type: string
  readonly name: string
  readonly text: string
}

function multipart(...parts: readonly Part[]): string {
  const head = `Content-Type: multipart/mixed; boundary="${boundary}"\nMIME-Version: 1.0\n\n`
  const body = parts.map(({ type, name, text }) =>
    [
      `--${boundary}`,
      `Content-Type: ${type}; charset="us-ascii"`,
      'MIME-Version: 1.0',
      `Content-Disposition: attachment; filename="${name}"`,
      '',
      text
    ].join('\n')
  )
  return `${head}${body.join('\n')}\n--${boundary}--\n`
}
