// The choice of the accelerator: the configured one, or what a trial finds; kept until the host boots.

import { asHostletError, HostletError } from '../../errors.ts'
import type { Logger } from '../../lib/log.ts'
import type { TrialResult } from './accelerator.ts'
import type { BootRecord } from './boot-record.ts'
import type { Wait } from './hypervisor.ts'

export type Accelerator = 'kvm' | 'tcg'

export interface AcceleratorChoiceOptions {
  readonly configured: 'auto' | Accelerator
  readonly bootRecord: Pick<BootRecord, 'read' | 'write'>
  readonly log: Logger
  /** Versions of libvirt and QEMU: an answer of others does not hold. */
  readonly versions: () => string
  readonly tryKvm: (wait: Wait) => Promise<TrialResult>
}

const recordName = 'accelerator'

export class AcceleratorChoice {
  readonly #options: AcceleratorChoiceOptions
  #chosen: Promise<Accelerator> | undefined

  constructor(options: AcceleratorChoiceOptions) {
    this.#options = options
  }

  /** What VMs of this host are meant to run with. Never fails for a host whose KVM does not work. */
  intended(wait: Wait): Promise<Accelerator> {
    const { configured } = this.#options
    return configured === 'auto' ? this.#once(() => this.#choose(wait)) : Promise.resolve(configured)
  }

  /** What a VM can be defined with. Throws E_UNSUPPORTED where KVM is configured and does not work. */
  usable(wait: Wait): Promise<Accelerator> {
    return this.#options.configured === 'kvm' ? this.#once(() => this.#requireKvm(wait)) : this.intended(wait)
  }

  /** One trial for all who ask meanwhile; a failed one is forgotten, so that what was mended is seen. */
  #once(choose: () => Promise<Accelerator>): Promise<Accelerator> {
    if (this.#chosen) return this.#chosen
    const choice = choose()
    this.#chosen = choice
    choice.catch(() => {
      if (this.#chosen === choice) this.#chosen = undefined
    })
    return choice
  }

  async #choose(wait: Wait): Promise<Accelerator> {
    const known = await this.#known()
    if (known) return known
    const { log, tryKvm } = this.#options
    const trial = await tryKvm(wait)
    const accelerator = trial.works ? 'kvm' : 'tcg'
    if (trial.works) log.info({ accelerator }, 'KVM was tried and works')
    else
      log.warn(
        { accelerator, detail: trial.detail },
        'KVM does not work here: VMs are emulated, which is slow'
      )
    await this.#keep(accelerator)
    return accelerator
  }

  /** An earlier "no" does not count here: who asked for KVM may have mended it since. */
  async #requireKvm(wait: Wait): Promise<Accelerator> {
    if ((await this.#known()) === 'kvm') return 'kvm'
    const { detail: told, works } = await this.#options.tryKvm(wait)
    // QEMU says the same again on further lines.
    const detail = told.replace(/\n.*/s, '')
    if (!works) {
      throw new HostletError(
        'E_UNSUPPORTED',
        `KVM does not work on this host (${detail}), and the agent is configured with "accelerator: kvm". Check that /dev/kvm exists and that every user may open it (mode 0666, as the udev rule 60-hostlet-kvm.rules sets), or set "accelerator: auto".`,
        { details: { detail } }
      )
    }
    await this.#keep('kvm')
    return 'kvm'
  }

  async #known(): Promise<Accelerator | undefined> {
    const { bootRecord, versions } = this.#options
    const known = await bootRecord.read(recordName)
    return isChoice(known) && known.versions === versions() ? known.accelerator : undefined
  }

  async #keep(accelerator: Accelerator): Promise<void> {
    const { bootRecord, versions, log } = this.#options
    await bootRecord.write(recordName, { versions: versions(), accelerator }).catch((error) => {
      log.warn({ error: asHostletError(error) }, 'the choice of the accelerator could not be kept')
    })
  }
}

function isChoice(value: unknown): value is { versions: string; accelerator: Accelerator } {
  if (typeof value !== 'object' || value === null) return false
  if (!('versions' in value) || !('accelerator' in value)) return false
  return value.accelerator === 'kvm' || value.accelerator === 'tcg'
}
