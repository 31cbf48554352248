// What a host is: the facts of its machine and those of its hypervisor, put together.

import type { HostFacts } from '../../protocol/vm.ts'
import type { Secrets } from '../keys/secrets.ts'
import { MachineFactsReader } from '../metrics/host-facts.ts'
import type { Hypervisor, Wait } from './hypervisor.ts'

export interface FactsOptions {
  readonly hypervisor: Pick<Hypervisor, 'facts'>
  readonly hostId: string
  readonly agentVersion: string
  readonly secrets: Pick<Secrets, 'publicKey'>
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
    const { hypervisor, hostId, agentVersion, secrets } = this.#options
    const [secretsKey, machine, { libvirtVersion, hypervisorVersion, ...rest }] = await Promise.all([
      secrets.publicKey(),
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
      secretsKey
    }
  }
}

function short(text: string): string {
  return text.slice(0, textCharactersMax)
}
