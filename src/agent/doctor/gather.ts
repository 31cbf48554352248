// Reads all facts of a host at once. What cannot be read becomes a reading that says why; nothing here throws.

import { stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { systemClock } from '../../lib/clock.ts'
import type { AgentConfig } from '../config.ts'
import type { Wait } from '../host/hypervisor.ts'
import { surveyLibvirt } from '../host/libvirt-survey.ts'
import { qemuLogDirectory } from '../host/qemu-logs.ts'
import { type OrphanReport, orphanReportName } from '../orphans/orphans.ts'
import { rulesOf } from '../policy/explain.ts'
import { PolicyFile } from '../policy/policy.ts'
import { hostKeys } from './checks/agent.ts'
import type { DoctorFacts, PolicyFacts } from './facts.ts'
import * as capabilities from './readers/capabilities.ts'
import { filesIn, place, placeOrAbove, reading, textOf } from './readers/files.ts'
import * as kernel from './readers/kernel.ts'
import * as libvirtFiles from './readers/libvirt-files.ts'
import * as network from './readers/network.ts'
import { poolAnswer, poolSpace } from './readers/pools.ts'
import { proxmoxFacts } from './readers/proxmox.ts'
import { type FutureScheduler, identityFacts, schedulerAnswers } from './readers/scheduler.ts'

const agentUserName = 'hostlet'

/** `future` is the scheduler that a host will join, where it has joined none. */
export async function gather(
  config: AgentConfig,
  wait: Wait,
  future?: FutureScheduler
): Promise<DoctorFacts> {
  const now = systemClock.now()
  const [libvirt, files, machine, network, fleet] = await Promise.all([
    ofLibvirt(config, wait),
    ofFiles(config, wait),
    ofKernel(config, wait),
    ofNetwork(config, wait),
    ofFleet(config, { now, future }, wait)
  ])
  return { config, now, ...libvirt, ...files, ...machine, ...network, ...fleet }
}

async function ofFleet(
  config: AgentConfig,
  { now, future }: { now: number; future: FutureScheduler | undefined },
  wait: Wait
) {
  return {
    identity: await reading(() => identityFacts(config.stateDirectory, now)),
    scheduler: await reading(() => schedulerAnswers(config, future, wait.signal)),
    luks: await reading(() => capabilities.luksTrial(wait)),
    tpmSupport: await reading(() => capabilities.tpmSupport(wait)),
    limits: await reading(() => capabilities.limits()),
    missingPrograms: await reading(() => capabilities.missingPrograms()),
    distribution: await reading(() => capabilities.distribution()),
    proxmox: await reading(() => proxmoxFacts())
  }
}

async function ofLibvirt({ libvirt: { uri, socket }, pool, backup }: AgentConfig, wait: Wait) {
  const { libvirtConfiguration } = libvirtFiles
  const otherPools = backup.scratchPool ? [backup.scratchPool.name] : []
  return {
    libvirt: await reading(() => surveyLibvirt({ uri, socket, pool: pool.name, otherPools }, wait)),
    qemuPackage: await reading(() => libvirtFiles.qemuPackage(wait)),
    qemuConf: await reading(() => libvirtFiles.settingsOf(join(libvirtConfiguration, 'qemu.conf'))),
    daemonConf: await reading(() => libvirtFiles.daemonSettings()),
    guestsService: await reading(() => libvirtFiles.guestsService()),
    memoryImages: await reading(() => libvirtFiles.memoryImages()),
    credentials: await reading(() => libvirtFiles.unitCredentials())
  }
}

async function ofFiles({ stateDirectory, runtimeDirectory, pool, backup }: AgentConfig, wait: Wait) {
  const paths = [pool.path, ...(backup.scratchPool ? [backup.scratchPool.path] : [])]
  const poolAnswers = await reading(async () =>
    (await Promise.all(paths.map((path) => poolAnswer(path, wait)))).filter((answer) => answer !== undefined)
  )
  // Storage that hangs holds whoever asks it.
  const answering = 'value' in poolAnswers ? paths.filter((path) => !isSilent(poolAnswers, path)) : []
  return {
    poolAnswers,
    poolSpace: await reading(async () =>
      (await Promise.all(answering.map((path) => poolSpace(path)))).filter((space) => space !== undefined)
    ),
    places: {
      logs: await reading(() => place(qemuLogDirectory)),
      keys: await reading(() => place(libvirtFiles.libvirtState)),
      runtime: await reading(() => placeOrAbove(runtimeDirectory)),
      state: await reading(() => place(stateDirectory)),
      pool: isSilent(poolAnswers, pool.path)
        ? { unreadable: `${pool.path}: does not answer` }
        : await reading(() => place(pool.path))
    },
    logSpace: await reading(async () => {
      const { bsize, blocks, bavail } = await statfs(qemuLogDirectory)
      return { sizeBytes: blocks * bsize, freeBytes: bavail * bsize }
    }),
    agentUser: await reading(agentUser),
    keyFiles: await reading(async () => [
      ...(await filesIn(stateDirectory)).filter(({ path }) => isKey(path)),
      ...(await filesIn(join(stateDirectory, 'keys'), 2))
    ]),
    policy: await reading(async () => policyOf(backup.policy)),
    leftovers: await reading(async () => leftoversIn(join(runtimeDirectory, orphanReportName)))
  }
}

async function ofKernel({ vmUids }: AgentConfig, wait: Wait) {
  const { first, count } = vmUids
  return {
    kvm: await reading(async () => {
      const found = await stat('/dev/kvm').catch(() => undefined)
      return found === undefined ? null : { mode: found.mode }
    }),
    nested: await reading(() => kernel.isNested()),
    tpm: await reading(async () => (await textOf('/sys/class/tpm/tpm0/tpm_version_major')) === '2'),
    swap: await reading(() => kernel.swapAreas()),
    hibernation: await reading(() => kernel.canHibernate()),
    corePattern: await reading(async () => (await textOf('/proc/sys/kernel/core_pattern')) ?? ''),
    lsm: await reading(() => kernel.securityModules()),
    cgroupVersion: await reading(() => kernel.cgroupVersion()),
    memoryBytes: await reading(() => kernel.memoryBytes()),
    cgroups: await reading(() => kernel.cgroupControllers()),
    ksm: await reading(() => kernel.isOn('/sys/kernel/mm/ksm/run')),
    smt: await reading(() => kernel.isOn('/sys/devices/system/cpu/smt/active')),
    vulnerabilities: await reading(() => kernel.openVulnerabilities()),
    hugePages: await reading(() => kernel.hugePages()),
    clockSynchronised: await reading(() => kernel.clockSynchronised(wait)),
    accountsInRange: await reading(() => kernel.accountsBetween(first, first + count - 1))
  }
}

async function ofNetwork({ profiles }: AgentConfig, wait: Wait) {
  const prefixes = Object.values(profiles).map(({ bridge }) => bridge)
  return {
    firewall: await reading(() => kernel.firewall(wait)),
    bridgeNetfilter: await reading(() => kernel.bridgeNetfilter()),
    ipForward: await reading(() => kernel.isOn('/proc/sys/net/ipv4/ip_forward')),
    bridges: await reading(() => kernel.bridgesOf(prefixes)),
    links: await reading(() => network.links()),
    routes: await reading(() => network.routes()),
    listening: await reading(() => network.listeningPorts()),
    localPorts: await reading(() => network.localPorts())
  }
}

/** By the files of users and groups: no name service is asked, for the user is a local one. */
async function agentUser(): Promise<{ uid: number; gid: number } | null> {
  const users = (await textOf('/etc/passwd')) ?? ''
  const found = new RegExp(`^${agentUserName}:[^:]*:(\\d+):(\\d+):`, 'm').exec(users)
  return found === null ? null : { uid: Number(found[1]), gid: Number(found[2]) }
}

/** To look at it would hold this process until its storage answers. */
function isSilent(answers: DoctorFacts['poolAnswers'], pool: string): boolean {
  return 'value' in answers && answers.value.some(({ path, answer }) => path === pool && answer === 'none')
}

async function leftoversIn(path: string): Promise<OrphanReport | null> {
  const text = await textOf(path)
  return text === undefined ? null : (JSON.parse(text) as OrphanReport)
}

function isKey(path: string): boolean {
  return path.endsWith('.key') || hostKeys.some(({ file }) => path.endsWith(`/${file}`))
}

function policyOf(path: string): PolicyFacts | null {
  const file = new PolicyFile(path)
  const fault = file.fault()
  if (fault !== undefined) return { fault }
  const policy = file.read()
  if (policy === undefined) return null
  const { recovery, repositories, commands } = policy
  return {
    recoveryKeys: recovery.length,
    repositories: Object.keys(repositories).length,
    rules: commands === undefined ? [] : rulesOf(commands)
  }
}
