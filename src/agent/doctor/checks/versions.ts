// Checks of versions: what is installed, and what is known to be wrong with it.

import { type Check, fail, over, pass, skip, type Verdict, warn } from '../check.ts'
import type { DoctorFacts } from '../facts.ts'
import { faultsOf, isAtLeast, type KnownFault, versionIn } from '../known-faults.ts'

/** Upstream; distributions fix older ones, of which only Debian's is known here. */
const nbdFixedUpstream = [9, 1, 0] as const
const nbdFixedDebian12 = 8
const packageOf: Readonly<Record<string, string>> = {
  'qemu-img': 'qemu-utils',
  nft: 'nftables',
  genisoimage: 'genisoimage',
  dnsmasq: 'dnsmasq-base'
}

export const versionChecks: readonly Check[] = [
  {
    id: 'programs',
    title: 'programs that are needed',
    judge: ({ missingPrograms, proxmox }) =>
      over(missingPrograms, (missing) => {
        if (missing.length === 0) return pass('all there')
        // Debian's qemu-utils would have apt remove Proxmox's QEMU.
        const onProxmox = 'value' in proxmox && proxmox.value !== null
        const packages = missing
          .map((program) => (onProxmox && program === 'qemu-img' ? 'pve-qemu-kvm' : packageOf[program]))
          .join(' ')
        return fail(`no ${missing.join(', ')}: VMs cannot be made`, {
          run: `apt-get install -y --no-install-recommends ${packages}`
        })
      })
  },
  {
    id: 'libvirt-version',
    title: 'libvirt without known faults',
    judge: (facts) =>
      over(facts.libvirt, ({ libvirtVersion }) => knownFaultVerdict(facts, 'libvirt', libvirtVersion))
  },
  {
    id: 'qemu-version',
    title: 'QEMU without known faults',
    judge: (facts) =>
      over(facts.libvirt, ({ hypervisorVersion }) => knownFaultVerdict(facts, 'QEMU', hypervisorVersion))
  },
  { id: 'qemu-nbd', title: 'QEMU without CVE-2024-7409', judge: nbdFault }
]

function knownFaultVerdict(
  { distribution }: DoctorFacts,
  component: KnownFault['component'],
  version: string
): Verdict {
  if (versionIn(version) === undefined) return skip(`no version in "${version}"`)
  const [worst, ...others] = faultsOf(component, version)
  if (worst === undefined) return pass(`${version}: none known here`)
  const also = others.length === 0 ? '' : `, and ${others.length} more`
  const text = `${version}: ${worst.what}${also}`
  if (worst.weight === 'note') return pass(`${text} (fixed in ${worst.fixedIn})`)
  const whose = 'value' in distribution ? distribution.value : 'your distribution'
  return warn(text, `${worst.todo} ${whose} may have mended it: look at the changelog of the package.`)
}

function nbdFault({ libvirt, qemuPackage }: DoctorFacts): Verdict {
  const packaged = 'value' in qemuPackage ? qemuPackage.value : null
  const debian12 = /^1:7\.2\+dfsg-7(?:\+deb12u(\d+))?/.exec(packaged ?? '')
  if (debian12 !== null)
    return Number(debian12[1] ?? 0) >= nbdFixedDebian12
      ? pass(`package ${packaged}`)
      : fail(`package ${packaged}: a client of a backup can crash the VM`, {
          run: 'apt-get update && apt-get install -y --only-upgrade qemu-system-x86',
          note: 'then restart each VM.'
        })
  return over(libvirt, ({ hypervisorVersion }) => {
    const version = versionIn(hypervisorVersion)
    if (version === undefined) return skip(`no version in "${hypervisorVersion}"`)
    return isAtLeast(version, nbdFixedUpstream)
      ? pass(hypervisorVersion)
      : warn(
          `${packaged ?? hypervisorVersion} is older than ${nbdFixedUpstream.join('.')}; your distribution may have fixed it`,
          'Look for CVE-2024-7409 in the changelog of the package of QEMU.'
        )
  })
}
