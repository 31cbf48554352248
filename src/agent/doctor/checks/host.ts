// Checks of the machine: what guests could learn of one another through it, and what it must have.

import { type Check, fail, over, pass, skip, warn } from '../check.ts'

export const hostChecks: readonly Check[] = [
  {
    id: 'ksm',
    title: 'memory merging (KSM)',
    judge: ({ ksm }) =>
      over(ksm, (on) =>
        on
          ? warn('on: VMs of hostlet keep out of it, others tell one another what their memory holds', {
              run: 'systemctl disable --now ksmtuned ksm; echo 2 > /sys/kernel/mm/ksm/run'
            })
          : pass('off')
      )
  },
  {
    id: 'smt',
    title: 'hardware threads (SMT)',
    judge: ({ smt }) =>
      over(smt, (on) =>
        on
          ? warn(
              'two VMs may share a core, and what leaks between its threads',
              'Boot with nosmt, or keep tenants on profiles with cpu: pinned.'
            )
          : pass('off')
      )
  },
  {
    id: 'mitigations',
    title: 'faults of the processor',
    judge: ({ vulnerabilities }) =>
      over(vulnerabilities, (open) =>
        open.length === 0
          ? pass('all mitigated')
          : warn(
              `nothing is done about ${open.join(', ')}`,
              'Install the microcode package and the newest kernel; take mitigations=off off the kernel command line.'
            )
      )
  },
  {
    id: 'huge-pages',
    title: 'huge pages',
    judge: ({ config, hugePages }) => {
      const profiles = Object.entries(config.profiles)
        .filter(([, { hugepages }]) => hugepages)
        .map(([name]) => name)
      if (profiles.length === 0) return skip('no profile asks for them')
      return over(hugePages, ({ total, free }) =>
        total > 0
          ? pass(`${free} of ${total} free`)
          : fail(
              `none reserved, and profile ${profiles.join(', ')} wants them`,
              'vm.nr_hugepages=N in /etc/sysctl.d, or hugepages=N on the kernel command line.'
            )
      )
    }
  },
  {
    id: 'clock',
    title: 'clock',
    judge: ({ clockSynchronised }) =>
      over(clockSynchronised, (synchronised) =>
        synchronised
          ? pass('synchronised')
          : fail('not synchronised: commands expire early or late, certificates too', {
              run: 'systemctl enable --now systemd-timesyncd',
              note: 'or chrony; timedatectl shows it.'
            })
      )
  },
  {
    id: 'vm-users',
    title: 'user numbers of VMs',
    judge: ({ accountsInRange, config: { vmUids } }) =>
      over(accountsInRange, (accounts) =>
        accounts.length === 0
          ? pass(`${vmUids.first} to ${vmUids.first + vmUids.count - 1} are nobody's`)
          : fail(
              `${accounts.slice(0, 3).join(', ')} would own the disks of a VM`,
              'Give vmUids of the configuration another range, or the accounts other numbers.'
            )
      )
  }
]
