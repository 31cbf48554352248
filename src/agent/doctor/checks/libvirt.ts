// Checks of libvirt, QEMU, KVM and of how they confine VMs.

import { type Check, fail, over, pass, skip, type Verdict, warn } from '../check.ts'
import type { DoctorFacts, Settings } from '../facts.ts'

const cgroupsNeeded = ['cpu', 'cpuset', 'memory', 'io', 'pids'] as const

export const libvirtChecks: readonly Check[] = [
  {
    id: 'libvirt',
    title: 'libvirt answers',
    judge: ({ libvirt }) =>
      'value' in libvirt
        ? pass(`libvirt ${libvirt.value.libvirtVersion}, QEMU ${libvirt.value.hypervisorVersion}`)
        : fail(libvirt.unreadable, {
            run: 'systemctl start libvirtd',
            note: 'or virtqemud; apt-get install libvirt-daemon-system where there is neither. The agent needs the group libvirt. VMs run on.'
          })
  },
  { id: 'kvm', title: 'KVM', judge: kvm },
  {
    id: 'kvm-mode',
    title: "/dev/kvm for VMs' own users",
    judge: ({ kvm: device, config }) =>
      over(device, (found) => {
        if (config.accelerator === 'tcg') return skip('VMs are emulated by configuration')
        if (found === null) return skip('there is no /dev/kvm')
        return (found.mode & 0o006) === 0o006
          ? pass('open to all')
          : fail(`mode ${octal(found.mode)}: a VM's user, which is in no group, cannot open it`, {
              run: 'udevadm control --reload && udevadm trigger --name-match=kvm',
              note: 'with systemd/udev/60-hostlet-kvm.rules in /usr/lib/udev/rules.d.'
            })
      })
  },
  {
    id: 'nested',
    title: 'nested virtualization',
    judge: ({ nested }) =>
      over(nested, (on) =>
        on
          ? warn('guests can run guests, which is a large part of KVM to attack', {
              run: "printf 'options kvm_intel nested=0\\noptions kvm_amd nested=0\\n' > /etc/modprobe.d/hostlet-kvm.conf",
              note: 'from the next boot on, and only where no guest needs it.'
            })
          : pass('off')
      )
  },
  {
    id: 'autostart',
    title: 'no VM is started by libvirt',
    judge: ({ libvirt }) =>
      over(libvirt, ({ vms }) => {
        const set = vms.filter(({ autostart }) => autostart).map(({ name }) => name)
        return set.length === 0
          ? pass(`${vms.length} VMs`)
          : fail(`${named(set)}: libvirt would start them before their rules and keys are there`, {
              run: set.map((name) => `virsh autostart --disable ${name}`).join(' && ')
            })
      })
  },
  { id: 'confinement', title: 'AppArmor or SELinux around QEMU', judge: confinement },
  setting('seccomp', 'seccomp sandbox', 'seccomp_sandbox', (value) => value !== '0', 'seccomp_sandbox = 1'),
  setting(
    'namespaces',
    'mount namespace of QEMU',
    'namespaces',
    (value) => /mount/.test(value),
    'namespaces = [ "mount" ]'
  ),
  setting(
    'dynamic-ownership',
    "files given to VM's users",
    'dynamic_ownership',
    (value) => value !== '0',
    'dynamic_ownership = 1'
  ),
  setting(
    'capabilities',
    'QEMU without capabilities',
    'clear_emulator_capabilities',
    (value) => value !== '0',
    'clear_emulator_capabilities = 1'
  ),
  setting('qemu-user', 'QEMU not as root', 'user', (value) => !/^"\+?(0|root)"$/.test(value), 'user'),
  {
    id: 'process-limit',
    title: 'limit of threads of a QEMU',
    judge: ({ qemuConf }) =>
      over(qemuConf, ({ max_processes: limit }) =>
        limit !== undefined && limit !== '0'
          ? pass(`max_processes = ${limit}`)
          : warn('none: a QEMU that was broken into can fill the process table', {
              run: "sed -i '/^max_processes/d' /etc/libvirt/qemu.conf && echo 'max_processes = 1024' >> /etc/libvirt/qemu.conf && systemctl restart libvirtd",
              note: 'VMs run on; it counts from their next start.'
            })
      )
  },
  {
    id: 'cgroups',
    title: 'control groups',
    judge: ({ cgroups }) =>
      over(cgroups, (found) => {
        const missing = cgroupsNeeded.filter((name) => !found.includes(name))
        return missing.length === 0
          ? pass(cgroupsNeeded.join(', '))
          : warn(
              `without ${missing.join(', ')}: such limits of VMs have no effect`,
              'Boot with systemd and cgroup v2 (systemd.unified_cgroup_hierarchy=1, cgroup_enable=memory).'
            )
      })
  },
  {
    id: 'cgroup-version',
    title: 'version of control groups',
    judge: ({ cgroupVersion }) =>
      over(cgroupVersion, (version) =>
        version === '2'
          ? pass('2')
          : warn(
              version === '1' ? '1' : '1, with 2 beside it: limits of VMs are those of version 1',
              'Boot without systemd.unified_cgroup_hierarchy=0, or with =1: systemd is giving version 1 up.'
            )
      )
  }
]

/** A setting of qemu.conf whose default is good. */
function setting(
  id: string,
  title: string,
  key: string,
  isGood: (value: string) => boolean,
  wanted: string
): Check {
  const judge = (settings: Settings): Verdict => {
    const value = settings[key]
    if (value === undefined) return pass('as libvirt has it by default')
    if (isGood(value)) return pass(`${key} = ${value}`)
    const words = `${wanted.includes('=') ? `Set ${wanted} in` : `Take ${wanted} out of`} /etc/libvirt/qemu.conf, restart libvirtd (VMs run on), restart each VM.`
    const run = `sed -i '/^ *${key} *=/d' /etc/libvirt/qemu.conf && systemctl restart libvirtd`
    // A list may go over several lines.
    return fail(
      `qemu.conf: ${key} = ${value}`,
      value.startsWith('[') ? words : { run, note: 'its default is right. VMs run on; then restart each.' }
    )
  }
  return { id, title, judge: ({ qemuConf }) => over(qemuConf, judge) }
}

function kvm({ libvirt, kvm: device, config }: DoctorFacts): Verdict {
  if (config.accelerator === 'tcg') return skip('VMs are emulated by configuration')
  return over(libvirt, ({ kvmOffered }) => {
    const there = 'value' in device && device.value !== null
    if (kvmOffered && there) return pass('libvirt offers it; the agent tries it before its first VM')
    const text = there ? 'libvirt does not offer it' : 'there is no /dev/kvm'
    const fix =
      'Switch virtualization on in the firmware (or nested in the hypervisor below), modprobe kvm_intel or kvm_amd; virt-host-validate qemu tells more.'
    return config.accelerator === 'kvm'
      ? fail(`${text}: no VM starts`, fix)
      : warn(`${text}: VMs are emulated, and slow`, fix)
  })
}

function confinement({ libvirt, lsm }: DoctorFacts): Verdict {
  return over(libvirt, ({ securityModels }) => {
    const used = securityModels.filter((model) => model === 'apparmor' || model === 'selinux')
    if (used.length > 0) return pass(used.join(', '))
    const host = 'value' in lsm ? lsm.value.filter((name) => name === 'apparmor' || name === 'selinux') : []
    return host.length > 0
      ? fail(
          `the host has ${host.join(', ')}, libvirt does not use it`,
          'Take security_driver out of /etc/libvirt/qemu.conf, install apparmor-utils and its libvirt profiles, restart libvirtd.'
        )
      : warn(
          'the host has neither: a QEMU that was broken into is held by its user, namespace and seccomp alone',
          'Boot with apparmor=1 security=apparmor, or SELinux enforcing.'
        )
  })
}

function named(names: readonly string[]): string {
  return names.length <= 3 ? names.join(', ') : `${names.slice(0, 3).join(', ')} and ${names.length - 3} more`
}

function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, '0')
}
