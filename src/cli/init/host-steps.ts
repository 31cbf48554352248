// What makes a machine a host: accounts, directories, configuration, kernel settings, identity, unit.

import type { AgentConfig } from '../../agent/config.ts'
import { isEnrolled } from '../../agent/identity/identity.ts'
import { HostletError } from '../../errors.ts'
import type { JoinToken } from '../../protocol/join-token.ts'
import { encodeJoinToken } from '../../protocol/join-token.ts'
import { agentStep, unitDropIn } from './agent-unit.ts'
import type { Account, Machine } from './machine.ts'
import { hostletProgram } from './program.ts'
import type { Step } from './steps.ts'
import { accountSteps, configStep, type WantedConfig } from './system-steps.ts'

export interface HostPlan {
  readonly config: AgentConfig
  readonly file: WantedConfig
  /** Undefined on a host that is enrolled already. */
  readonly join: JoinToken | undefined
  /** In place of an identity that is there. */
  readonly rejoin?: boolean
}

export const agentUser = 'hostlet'
const usualPool = '/var/lib/libvirt/images/hostlet'
const dropInPath = '/etc/systemd/system/hostlet.service.d/50-pool.conf'
const sysctlPath = '/etc/sysctl.d/60-hostlet.conf'
const sysctlDirectories = ['/etc/sysctl.d', '/run/sysctl.d', '/usr/local/lib/sysctl.d', '/usr/lib/sysctl.d']
const logsUnit = 'var-log-libvirt-qemu.mount'
const kvmRule = '/usr/lib/udev/rules.d/60-hostlet-kvm.rules'

export function hostSteps(machine: Machine, plan: HostPlan): Step[] {
  const { config } = plan
  return [
    ...accountSteps(machine, agentUser),
    ...directorySteps(machine, config),
    configStep(machine, plan.file, agentUser),
    ...(isBelow(config.pool.path, usualPool) ? [] : [poolStep(machine, config.pool.path)]),
    forwardStep(machine),
    ...(machine.exists(kvmRule) && machine.exists('/dev/kvm') ? [kvmStep(machine)] : []),
    ...(machine.hasSystemd ? [logsStep(machine)] : []),
    joinStep(machine, plan),
    ...(machine.hasSystemd ? [agentStep(machine)] : [])
  ]
}

/** The unit may write there. A directory beside it whose name only begins alike is another one. */
function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`)
}

function directorySteps(machine: Machine, { stateDirectory, pool }: AgentConfig): Step[] {
  const make = (path: string, mode: number, owner: () => Account | undefined): Step => ({
    what: `make ${path}`,
    isDone: () => machine.exists(path),
    act: async () => {
      machine.makeDirectory(path, { mode, owner: owner() })
      return undefined
    },
    help: 'Look at its file system: df, mount, and whether it is read-only.'
  })
  return [
    make(stateDirectory, 0o700, () => machine.account(agentUser)),
    // root's: no VM may put another file in the place of a disk. Its user passes through.
    make(pool.path, 0o711, () => undefined)
  ]
}

function poolStep(machine: Machine, path: string): Step {
  const text = `# Written by "hostlet init": the directory of the pool, which the unit does not have writable by itself.\n[Service]\nReadWritePaths=-${path}\n`
  return unitDropIn(machine, { path: dropInPath, text, what: `let the agent's unit write to ${path}` })
}

function forwardStep(machine: Machine): Step {
  const setting = /^\s*net[./]ipv4[./]ip_forward\s*=\s*1\s*$/m
  const isKept = () =>
    setting.test(machine.read('/etc/sysctl.conf') ?? '') ||
    sysctlDirectories.some((directory) =>
      machine.names(directory).some((name) => setting.test(machine.read(`${directory}/${name}`) ?? ''))
    )
  return {
    what: `have the host forward IPv4 (${sysctlPath}): VMs reach nothing otherwise`,
    isDone: () => isKept() && machine.read('/proc/sys/net/ipv4/ip_forward')?.trim() === '1',
    act: async () => {
      if (!isKept())
        machine.write(sysctlPath, '# VMs of hostlet reach nothing without it.\nnet.ipv4.ip_forward = 1\n', {
          mode: 0o644
        })
      await machine.must('sysctl', ['-q', '-w', 'net.ipv4.ip_forward=1'])
      return undefined
    },
    help: 'Try "sysctl -w net.ipv4.ip_forward=1": it tells why not.'
  }
}

function kvmStep(machine: Machine): Step {
  return {
    what: "open /dev/kvm to VMs' own users",
    isDone: () => ((machine.mode('/dev/kvm') ?? 0) & 0o006) === 0o006,
    act: async () => {
      await machine.must('udevadm', ['control', '--reload'])
      await machine.must('udevadm', ['trigger', '--name-match=kvm', '--settle'])
      return undefined
    },
    help: `${kvmRule} sets it at boot; "chmod 666 /dev/kvm" does until then.`
  }
}

/** Beside VMs that run it is only enabled: they would go on logging below it. */
function logsStep(machine: Machine): Step {
  const isMounted = () => / \/var\/log\/libvirt\/qemu tmpfs /.test(machine.read('/proc/mounts') ?? '')
  const isEnabled = () => machine.exists(`/etc/systemd/system/local-fs.target.wants/${logsUnit}`)
  return {
    what: "keep QEMU's logs in memory, for they give passphrases of disks away",
    isDone: () => isEnabled() && (isMounted() || runsVms(machine)),
    act: async () => {
      await machine.must('systemctl', ['daemon-reload'])
      const later = runsVms(machine)
      await machine.must('systemctl', ['enable', ...(later ? [] : ['--now']), logsUnit])
      return later ? 'from the next boot on, as VMs are running' : undefined
    },
    help: `Look at "systemctl status ${logsUnit}". Is the package installed as a whole?`
  }
}

function runsVms(machine: Machine): boolean {
  const processes = machine.names('/proc').filter((name) => /^\d+$/.test(name))
  return processes.some((pid) => /^qemu-(system|kvm)/.test(readName(machine, pid)))
}

function readName(machine: Machine, pid: string): string {
  try {
    return machine.read(`/proc/${pid}/comm`) ?? ''
  } catch {
    // It has ended meanwhile.
    return ''
  }
}

function joinStep(machine: Machine, { config: { stateDirectory }, join, rejoin = false }: HostPlan): Step {
  return {
    what: join === undefined ? 'join a scheduler' : `join the scheduler at ${join.urls[0]}`,
    isDone: () => !rejoin && isEnrolled(machine.at(stateDirectory)),
    act: async () => {
      if (join === undefined) throw new HostletError('E_BAD_REQUEST', 'there is no token: give --token-file')
      // As the agent's user, whose files they are; the token on standard input, where nobody else sees it.
      const enroll = ['enroll', ...(rejoin ? ['--force'] : []), '--token-file', '-']
      const words = ['-u', agentUser, '--', ...hostletProgram(machine), ...enroll]
      return (await machine.must('runuser', words, encodeJoinToken(join))).trim().split('.')[0]
    },
    help: 'Nothing was joined. If the token was used or is over, make another one with "hostlet host token".'
  }
}
