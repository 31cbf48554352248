// What a host is: the facts of its machine and those of its hypervisor, put together.

import type { HostFacts } from '../../protocol/vm.ts'
import { MachineFactsReader } from '../metrics/host-facts.ts'
import type { Hypervisor, Wait } from './hypervisor.ts'

export interface FactsOptions {
  readonly hypervisor: Pick<Hypervisor, 'facts'>
  readonly hostId: string
  readonly agentVersion: string
  /** What secrets for this host are sealed for. */
  readonly secretsKey?: () => HostFacts['secretsKey']
  readonly machine?: Pick<MachineFactsReader, 'read'>
}

const textCharactersMax = 256

export class Facts {
  readonly #options: FactsOptions
  readonly #machine: Pick<MachineFactsReader, 'read'>

  constructor(options: FactsOptions) {
    this.#options = options
    this.#machine = options.machine ?? new MachineFactsReader()
  }

  /** Throws what the hypervisor throws: without it there is no telling what the host can do. */
  async read(wait: Wait): Promise<HostFacts> {
    const { hypervisor, hostId, agentVersion } = this.#options
    const secretsKey = this.#options.secretsKey?.()
    const [machine, { libvirtVersion, hypervisorVersion, ...rest }] = await Promise.all([
      this.#machine.read(wait),
      hypervisor.facts(wait)
    ])
    return {
      hostId,
      agentVersion,
      libvirtVersion: short(libvirtVersion),
      hypervisorVersion: short(hypervisorVersion),
      ...machine,
      ...rest,
      ...(secretsKey && { secretsKey })
    }
  }
}

function short(text: string): string {
  return text.slice(0, textCharactersMax)
}
