// What a host is: the facts that change rarely, read at the first question.

import { hostname, release } from 'node:os'
import type { Clock } from '../../lib/clock.ts'
import type { HostFacts } from '../../protocol/vm.ts'
import type { Hypervisor, Wait } from './hypervisor.ts'

export interface FactsOptions {
  readonly hypervisor: Pick<Hypervisor, 'facts'>
  readonly clock: Pick<Clock, 'now'>
  readonly hostId: string
  readonly agentVersion: string
  readonly readMachine?: () => Promise<Machine>
}

type Machine = Pick<HostFacts, 'cpuModel' | 'cpus' | 'memoryBytes' | 'operatingSystem' | 'bootedAt'>

const textCharactersMax = 256

export class Facts {
  readonly #options: FactsOptions
  #machine: Promise<Machine> | undefined

  constructor(options: FactsOptions) {
    this.#options = options
  }

  /** Throws what the hypervisor throws: without it there is no telling what the host can do. */
  async read(wait: Wait): Promise<HostFacts> {
    const { hypervisor, hostId, agentVersion, clock, readMachine = () => readSystem(clock) } = this.#options
    this.#machine ??= readMachine()
    this.#machine.catch(() => {
      this.#machine = undefined
    })
    const [machine, { libvirtVersion, hypervisorVersion, ...rest }] = await Promise.all([
      this.#machine,
      hypervisor.facts(wait)
    ])
    return {
      hostId,
      hostname: short(hostname()),
      agentVersion,
      libvirtVersion: short(libvirtVersion),
      hypervisorVersion: short(hypervisorVersion),
      kernel: short(release()),
      ...machine,
      ...rest
    }
  }
}

/** The library is loaded for this and let go: it is large, and asked once. */
async function readSystem(clock: Pick<Clock, 'now'>): Promise<Machine> {
  const { cpu, mem, osInfo, time } = await import('systeminformation')
  const [processor, memory, system] = await Promise.all([cpu(), mem(), osInfo()])
  return {
    cpuModel: short(`${processor.manufacturer} ${processor.brand}`.trim()),
    cpus: Math.max(1, processor.cores),
    memoryBytes: memory.total,
    operatingSystem: short(`${system.distro} ${system.release}`.trim()),
    bootedAt: Math.round(clock.now() - Number(time().uptime) * 1_000)
  }
}

function short(text: string): string {
  return text.slice(0, textCharactersMax)
}
