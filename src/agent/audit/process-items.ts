// Items about QEMU's process: what holds a guest that has broken out of its machine.

import { type Item, no, ofProcess, unknown, yes } from './item.ts'

const filtered = 2
const none = /^0+$/
const unconfined = /^unconfined|unconfined_t/

export const processItems: readonly Item[] = [
  {
    id: 'seccomp',
    title: 'seccomp sandbox',
    judge: (facts) =>
      ofProcess(facts, ({ seccomp, sandbox }) => {
        if (seccomp !== filtered) return no('the kernel filters none of its system calls')
        return sandbox?.startsWith('on') && !/=allow/.test(sandbox)
          ? yes(`-sandbox ${sandbox}`)
          : no(`started with -sandbox ${sandbox ?? 'off'}`)
      })
  },
  {
    id: 'mount-namespace',
    title: 'mount namespace',
    judge: (facts) =>
      ofProcess(facts, ({ ownMounts }) => {
        if (ownMounts === undefined) return unknown('the mounts of QEMU or of the host cannot be read')
        return ownMounts ? yes('sees mounts and devices of its own') : no('sees the mounts of the host')
      })
  },
  {
    id: 'own-user',
    title: 'user of its own',
    judge: (facts) =>
      ofProcess(facts, ({ uids, sameUser }) => {
        const { uid } = facts.vm.placement
        const other = uids.find((each) => each !== uid)
        if (other !== undefined) return no(`runs as user ${other}, placed as ${uid}`)
        if (facts.otherUids.includes(uid)) return no(`another VM has user ${uid} too`)
        return sameUser.length === 0
          ? yes(`user ${uid}`)
          : no(`process ${sameUser.slice(0, 3).join(', ')} has user ${uid} too`)
      })
  },
  {
    id: 'no-privileges',
    title: 'no privileges, and no way to new ones',
    judge: (facts) =>
      ofProcess(facts, ({ effectiveCapabilities, noNewPrivileges }) => {
        if (!none.test(effectiveCapabilities)) return no(`capabilities ${effectiveCapabilities}`)
        return noNewPrivileges ? yes('no capabilities, no_new_privs') : no('no_new_privs is not set')
      })
  },
  {
    id: 'confinement',
    title: 'AppArmor or SELinux',
    judge: (facts) =>
      ofProcess(facts, ({ label }) => {
        if (label !== undefined) return unconfined.test(label) ? no(`label ${label}`) : yes(label)
        const { hostConfinement, inspection } = facts
        const claimed = inspection.labels.apparmor ?? inspection.labels.selinux
        if (hostConfinement.length === 0) return no('the host has neither')
        return claimed === undefined
          ? no(`the host has ${hostConfinement.join(', ')}, the VM no label of it`)
          : unknown(`libvirt says ${claimed}, the kernel does not tell`)
      })
  },
  {
    id: 'no-listening',
    title: 'listens at no port of the host',
    judge: (facts) =>
      ofProcess(facts, ({ listening }) =>
        listening.length === 0 ? yes('no socket of its user listens') : no(listening.slice(0, 5).join(', '))
      )
  },
  {
    id: 'core-dumps',
    title: 'kept out of core dumps',
    judge: (facts) => {
      if (facts.inspection.inCoreDumps) return no('its memory is part of core dumps of QEMU')
      return ofProcess(facts, ({ coreLimit }) =>
        coreLimit === '0'
          ? yes('limit 0, memory left out')
          : no(`core dumps of QEMU up to ${coreLimit} bytes`)
      )
    }
  },
  {
    id: 'process-limit',
    title: 'limit of processes',
    judge: (facts) =>
      ofProcess(facts, ({ processLimit, groupProcessLimit }) => {
        if (groupProcessLimit !== undefined) return yes(`${groupProcessLimit} in its control group`)
        if (processLimit === 'unlimited') return no('none')
        if (processLimit === 'unknown') return unknown('its limits cannot be read')
        return Number(processLimit) <= processesMax
          ? yes(`${processLimit} of its user`)
          : no(`${processLimit}, the kernel's default: max_processes of qemu.conf sets one`)
      })
  }
]

/** More is no limit but what the kernel gives everybody by the size of its memory. */
const processesMax = 16_384
