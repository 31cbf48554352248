// What the hypervisor in memory tells of everything that is there: domains that a test planted, what domains use, machines that were tampered with.

import { HostletError } from '../../errors.ts'
import type { ForeignDomain } from '../../protocol/vm.ts'
import { noUses, usesIn } from './domain-uses.ts'
import { domainXml } from './domain-xml.ts'
import { changedDraft, newDraft, removalDraft } from './draft.ts'
import { inspectionIn } from './inspection.ts'
import type { DomainUse, MachineExamination } from './inventory-port.ts'
import { isOff } from './making.ts'
import type { MemoryVm } from './memory-vm.ts'
import { metadataElement, metadataOf, type VmMetadata } from './metadata.ts'
import type { Draft, DraftChange } from './plan-port.ts'
import { judge, type SeenDomain } from './quarantine.ts'
import { renderXml } from './xml.ts'

/** Name of the pool of the hypervisor in memory. */
export const memoryPool = 'memory'

/** A domain that somebody defined by hand. */
export interface PlantedDomain {
  readonly name: string
  readonly uuid: string
  /** Ours as it would be written, any text in its place, or none. */
  readonly metadata?: VmMetadata | string
  readonly xml?: string
  readonly state?: ForeignDomain['state']
}

/** What somebody did to a machine behind the agent's back. */
export interface Tampering {
  /** Of the running machine: what the agent can put right, and what it cannot. */
  live?: ((xml: string) => string) | undefined
  devices?: ((xml: string) => string) | undefined
  definition?: ((xml: string) => string) | undefined
  autostart?: boolean | undefined
  /** Its definition is gone. */
  transient?: boolean | undefined
}

export class MemoryInventory {
  readonly foreign: ForeignDomain[] = []
  readonly planted: PlantedDomain[] = []
  poolIsStopped = false
  readonly #vms: ReadonlyMap<string, MemoryVm>
  readonly #poolPath: string

  constructor(vms: ReadonlyMap<string, MemoryVm>, poolPath = '/memory') {
    this.#vms = vms
    this.#poolPath = poolPath
  }

  isForeign(name: string, uuid?: string): boolean {
    return [...this.foreign, ...this.planted].some((domain) => domain.name === name || domain.uuid === uuid)
  }

  /** Whether another domain has the name or the UUID. */
  isTaken(name: string, uuid: string): boolean {
    const ours = [...this.#vms.values()].map(({ definition }) => definition.specification)
    return ours.some((vm) => (vm.name === name) !== (vm.uuid === uuid)) || this.isForeign(name, uuid)
  }

  listForeign(): ForeignDomain[] {
    const ours = [...this.#vms.values()].map(seenVm)
    const known = new Set(ours.map(({ uuid }) => uuid))
    const looks = judge([...ours, ...this.planted.map(seenPlanted)], { pool: memoryPool, known })
    const quarantined = this.planted.flatMap(({ name, uuid, state = 'stopped' }) => {
      const look = looks.get(uuid)
      return look?.kind === 'foreign' ? [{ name, uuid, state, reason: look.reason, detail: look.detail }] : []
    })
    return [...this.foreign, ...quarantined]
  }

  uses(only?: 'foreign'): DomainUse[] {
    const foreign = this.listForeign().map(({ name, uuid, reason = 'other' }): DomainUse => {
      const found = this.planted.find((each) => each.uuid === uuid)
      const uses = found && usesIn(found.xml ? [found.xml] : [], seenPlanted(found).metadata)
      return { name, uuid, owner: reason, complete: true, ...(uses ?? noUses) }
    })
    if (only === 'foreign') return foreign
    const ours = [...this.#vms.values()].map(({ definition }): DomainUse => {
      const { name, uuid } = definition.specification
      const metadata = metadataText(metadataOf(definition, memoryPool))
      const uses = usesIn([domainXml(definition, environmentOf(this.#poolPath))], metadata)
      return { name, uuid, owner: 'ours', complete: true, ...uses }
    })
    return [...ours, ...foreign]
  }

  examine(vm: MemoryVm): MachineExamination {
    return examinationOf(vm, this.#poolPath)
  }

  draft(change: DraftChange): Draft {
    const environment = environmentOf(this.#poolPath)
    if (change.kind === 'new') return newDraft(change, environment)
    const { name } = change
    const vm = this.#vms.get(name)
    if (vm === undefined) throw new HostletError('E_NOT_FOUND', `VM ${name} is not defined on this host`)
    const xml = domainXml(vm.definition, environment)
    if (change.kind === 'removal') return removalDraft(xml)
    return changedDraft(xml, metadataOf(vm.definition, memoryPool), change, environment)
  }

  mend(vm: MemoryVm, ...parts: (keyof Tampering)[]): void {
    for (const part of parts) delete vm.tampering?.[part]
  }

  ensurePool(): boolean {
    const wasStopped = this.poolIsStopped
    this.poolIsStopped = false
    return wasStopped
  }
}

function examinationOf(vm: MemoryVm, poolPath: string): MachineExamination {
  const { tampering = {}, definition } = vm
  const same = (xml: string) => xml
  const { live = same, devices = same, definition: changeDefinition = same } = tampering
  const xml = domainXml(definition, environmentOf(poolPath))
  const running = !isOff(vm)
  const autostart = tampering.autostart ?? false
  const inspect = (text: string, on: boolean) => inspectionIn(text, { running: on, autostart })
  return {
    running,
    autostart,
    definition: tampering.transient ? null : inspect(changeDefinition(xml), false),
    live: running ? inspect(devices(live(xml)), true) : undefined
  }
}

function environmentOf(path: string) {
  return {
    accelerator: 'tcg',
    pool: { name: memoryPool, path },
    qemuGid: 64_055,
    consoleDirectory: '/memory/console'
  } as const
}

function seenVm({ definition, run }: MemoryVm): SeenDomain {
  const { name, uuid } = definition.specification
  return { name, uuid, run, metadata: metadataText(metadataOf(definition, memoryPool)) }
}

function seenPlanted({ name, uuid, metadata }: PlantedDomain): SeenDomain {
  const text = typeof metadata === 'object' ? metadataText(metadata) : (metadata ?? null)
  return { name, uuid, run: null, metadata: text }
}

function metadataText(metadata: VmMetadata): string {
  return renderXml(metadataElement(metadata))
}
