// Gives libvirt's domains their share of the host: limits of a machine that has started, changes of a definition and of a running machine.

import {
  blockIoTuneParameter,
  blockResizeFlag,
  type Connection,
  type Domain,
  domainBlockResize,
  domainDefineXml,
  domainGetMaxMemory,
  domainGetVcpusFlags,
  domainGetXmlDesc,
  domainPinEmulator,
  domainPinVcpuFlags,
  domainSetBlockIoTune,
  domainSetMemoryParameters,
  domainSetSchedulerParametersFlags,
  domainState,
  domainXmlFlag,
  errorCode,
  memoryParameter,
  modificationImpact,
  schedulerParameter,
  type TypedParameterInput
} from 'node-libvirt'
import { HostletError } from '../../errors.ts'
import type { Logger } from '../../lib/log.ts'
import type { DiskRole } from '../../protocol/backup.ts'
import { memoryLimitBytes } from '../resources/memory-limit.ts'
import { cpuWeight } from './cgroups.ts'
import type { ConnectionRole } from './connections.ts'
import { type DomainEnvironment, diskTargets } from './domain-xml.ts'
import type { Domains } from './domains.ts'
import type { Wait } from './hypervisor.ts'
import { attempt, isAnswer } from './libvirt-errors.ts'
import type { VmMetadata } from './metadata.ts'
import { reshapedXml } from './reshape-xml.ts'
import { reshaped } from './shape.ts'
import type { VmShape } from './shape-port.ts'
import { cpuPeriodMicroseconds, cpuQuotaMicroseconds } from './tuning-xml.ts'
import type { Volumes } from './volumes.ts'

export interface TuningOptions {
  readonly connection: (role: ConnectionRole) => Connection
  readonly domains: Pick<Domains, 'require' | 'stateOf' | 'changes'>
  readonly volumes: Pick<Volumes, 'find' | 'grow'>
  readonly environment: (wait: Wait) => Promise<DomainEnvironment>
  readonly log: Logger
}

const quickMs = 10_000
const growMs = 120_000
/** libvirt's word for no quota. */
const noQuota = -1
const live = modificationImpact.live
const offStates: ReadonlySet<number> = new Set([domainState.shutOff, domainState.crashed])

export class Tuning {
  readonly #options: TuningOptions
  /** Controllers that libvirt turned out not to have, told once. */
  readonly #missing = new Set<string>()

  constructor(options: TuningOptions) {
    this.#options = options
  }

  async reshape(name: string, shape: VmShape, wait: Wait): Promise<void> {
    const { domains, environment } = this.#options
    const host = await environment(wait)
    await using _held = await domains.changes.acquire(name, wait.signal)
    const { domain, metadata: before } = await domains.require(name, wait)
    const metadata = reshaped(before, shape)
    const doing = `change the shape of VM ${name}`
    // The machine first: what it did not take must not stand in the definition as if it had.
    const isOff = offStates.has(await domains.stateOf(domain, doing, wait))
    if (!isOff) await this.#follow(domain, metadata, host, wait)
    if (shape.sizes !== undefined || shape.resources !== undefined)
      await this.#redefine(domain, metadata, doing, wait)
  }

  async growDisk(name: string, role: DiskRole, capacityBytes: number, wait: Wait): Promise<void> {
    const { domains, volumes } = this.#options
    const { domain, metadata } = await domains.require(name, wait)
    const volume = role === 'root' ? metadata.placement.rootVolume : metadata.placement.dataVolume
    if (volume === null) throw new HostletError('E_NOT_FOUND', `VM ${name} has no data disk`)
    const doing = `grow the ${role} disk of VM ${name}`
    if (offStates.has(await domains.stateOf(domain, doing, wait)))
      return await volumes.grow(volume, capacityBytes, wait)
    const args = {
      domain,
      disk: diskTargets[role],
      size: BigInt(capacityBytes),
      flags: blockResizeFlag.bytes
    }
    const known = await volumes.find(volume, wait)
    if ((known?.capacityBytes ?? 0) >= capacityBytes) return
    await attempt(doing, () =>
      this.#jobs.call(domainBlockResize, args, { signal: wait.signal, deadlineMs: growMs })
    )
  }

  /** What a machine gets as soon as it runs, since its definition does not say it. */
  async contain(domain: Domain, metadata: VmMetadata, wait: Wait): Promise<void> {
    const host = await this.#options.environment(wait)
    await this.#limitMemory(domain, metadata, host, wait)
    await this.#weigh(domain, host, wait)
  }

  get #jobs(): Connection {
    return this.#options.connection('jobs')
  }

  async #redefine(domain: Domain, metadata: VmMetadata, doing: string, wait: Wait): Promise<void> {
    const args = { domain, flags: domainXmlFlag.inactive }
    const { xml: source } = await this.#call(doing, wait, (jobs, options) =>
      jobs.call(domainGetXmlDesc, args, options)
    )
    const xml = reshapedXml(source, metadata)
    await this.#call(doing, wait, (jobs, options) => jobs.call(domainDefineXml, { xml }, options))
  }

  /** The running machine as its metadata says. One that went off meanwhile needs nothing. */
  async #follow(domain: Domain, metadata: VmMetadata, host: DomainEnvironment, wait: Wait): Promise<void> {
    try {
      await this.#setQuota(domain, metadata, host, wait)
      await this.#pin(domain, metadata, wait)
      await this.#limitDisks(domain, metadata, wait)
      await this.#limitMemory(domain, metadata, host, wait)
      await this.#weigh(domain, host, wait)
    } catch (error) {
      const cause = error instanceof Error ? error.cause : undefined
      const isOver = isAnswer(cause, errorCode.operationInvalid) || isAnswer(cause, errorCode.noDomain)
      const doing = `look at VM ${domain.name}`
      if (!isOver || !offStates.has(await this.#options.domains.stateOf(domain, doing, wait))) throw error
    }
  }

  async #setQuota(domain: Domain, { specification }: VmMetadata, host: DomainEnvironment, wait: Wait) {
    const { cpuLimitPercent: percent } = specification
    if (percent === undefined && host.cgroups?.cpu !== true) return
    const parameters = [
      { field: schedulerParameter.globalPeriodUs, type: 'ullong', value: cpuPeriodMicroseconds },
      {
        field: schedulerParameter.globalQuotaUs,
        type: 'llong',
        value: percent === undefined ? noQuota : cpuQuotaMicroseconds(percent)
      }
    ] as const
    const set = () => this.#setScheduler(domain, parameters, wait)
    if (percent === undefined) await this.#whereGrouped('CPU time', domain, set, wait)
    else await set()
  }

  async #weigh(domain: Domain, { cgroups }: DomainEnvironment, wait: Wait): Promise<void> {
    if (cgroups?.cpu !== true) return
    const vcpus = await this.#vcpusOf(domain, wait)
    const weight = {
      field: schedulerParameter.cpuShares,
      type: 'ullong',
      value: cpuWeight(vcpus, cgroups)
    } as const
    await this.#whereGrouped('CPU time', domain, () => this.#setScheduler(domain, [weight], wait), wait)
  }

  async #setScheduler(domain: Domain, parameters: readonly TypedParameterInput[], wait: Wait): Promise<void> {
    const args = { domain, parameters: [...parameters], flags: live }
    await this.#call(`share CPU time out to VM ${domain.name}`, wait, (jobs, options) =>
      jobs.call(domainSetSchedulerParametersFlags, args, options)
    )
  }

  async #vcpusOf(domain: Domain, wait: Wait): Promise<number> {
    const { vcpus } = await this.#call(`look at VM ${domain.name}`, wait, (jobs, options) =>
      jobs.call(domainGetVcpusFlags, { domain, flags: live }, options)
    )
    return vcpus
  }

  /** Where libvirt was told to keep its hands off a controller it says no more than that it cannot, of a machine that runs. */
  async #whereGrouped(
    what: 'CPU time' | 'memory',
    domain: Domain,
    set: () => Promise<void>,
    wait: Wait
  ): Promise<void> {
    try {
      await set()
    } catch (error) {
      const isRefused = error instanceof HostletError && isAnswer(error.cause, errorCode.operationInvalid)
      const { domains, log } = this.#options
      if (!isRefused || offStates.has(await domains.stateOf(domain, `look at VM ${domain.name}`, wait)))
        throw error
      if (!this.#missing.has(what)) log.warn({ what }, 'VMs have no limits: libvirt has no controller for it')
      this.#missing.add(what)
    }
  }

  /** As many vCPUs as run: those that come or go with the next start are not there yet, or still there. */
  async #pin(domain: Domain, { placement }: VmMetadata, wait: Wait): Promise<void> {
    const { pinned, shared } = placement.resources ?? {}
    if (pinned === undefined && shared === undefined) return
    const doing = `move VM ${domain.name} to its cores`
    const vcpus = await this.#vcpusOf(domain, wait)
    for (let vcpu = 0; vcpu < vcpus; vcpu++) {
      const cpus = pinned === undefined ? shared : (pinned[vcpu] ?? pinned.flat())
      const args = { domain, vcpu, cpuMap: cpuMapOf(cpus ?? []), flags: live }
      await this.#call(doing, wait, (jobs, options) => jobs.call(domainPinVcpuFlags, args, options))
    }
    const own = pinned?.slice(0, vcpus).flat() ?? shared ?? []
    const args = { domain, cpuMap: cpuMapOf(own), flags: live }
    await this.#call(doing, wait, (jobs, options) => jobs.call(domainPinEmulator, args, options))
  }

  async #limitDisks(domain: Domain, { placement }: VmMetadata, wait: Wait): Promise<void> {
    const { bytesPerSecondMax = 0, operationsPerSecondMax = 0 } = placement.resources?.diskLimits ?? {}
    const parameters = [
      { field: blockIoTuneParameter.totalBytesPerSecond, type: 'ullong', value: bytesPerSecondMax },
      { field: blockIoTuneParameter.totalIops, type: 'ullong', value: operationsPerSecondMax }
    ] as const
    for (const disk of placement.dataVolume === null ? [diskTargets.root] : Object.values(diskTargets)) {
      const args = { domain, disk, parameters: [...parameters], flags: live }
      await this.#call(`limit disk ${disk} of VM ${domain.name}`, wait, (jobs, options) =>
        jobs.call(domainSetBlockIoTune, args, options)
      )
    }
  }

  /**
   * By libvirt's call for a machine that runs, not in its definition: with `hard_limit` there libvirt also raises what QEMU may
   * lock in memory, which nobody wants it to do and which fails where libvirtd has no CAP_SYS_RESOURCE.
   */
  async #limitMemory(domain: Domain, { placement }: VmMetadata, host: DomainEnvironment, wait: Wait) {
    if (host.cgroups?.memory !== true) return
    const doing = `limit the memory of VM ${domain.name}`
    const { memoryKib } = await this.#call(doing, wait, (jobs, options) =>
      jobs.call(domainGetMaxMemory, { domain }, options)
    )
    const vcpus = await this.#vcpusOf(domain, wait)
    const limitBytes = memoryLimitBytes({
      memoryBytes: Number(memoryKib) * 1024,
      cpus: vcpus,
      disks: placement.dataVolume === null ? 1 : 2,
      accelerator: host.accelerator
    })
    const hard = { field: memoryParameter.hardLimitKib, type: 'ullong', value: limitBytes / 1024 } as const
    const args = { domain, parameters: [hard], flags: live }
    const set = async () =>
      void (await this.#call(doing, wait, (jobs, options) =>
        jobs.call(domainSetMemoryParameters, args, options)
      ))
    await this.#whereGrouped('memory', domain, set, wait)
  }

  async #call<Reply>(
    doing: string,
    { signal }: Wait,
    work: (jobs: Connection, options: Wait & { deadlineMs: number }) => Promise<Reply>
  ): Promise<Reply> {
    return await attempt(doing, () => work(this.#jobs, { signal, deadlineMs: quickMs }))
  }
}

/** One bit a processor, lowest bit of the first byte first. */
export function cpuMapOf(cpus: readonly number[]): Uint8Array {
  const map = new Uint8Array(Math.floor(Math.max(0, ...cpus) / 8) + 1)
  for (const cpu of cpus) map[cpu >> 3] = (map[cpu >> 3] ?? 0) | (1 << (cpu & 7))
  return map
}
