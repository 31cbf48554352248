// Comparisons of a VM's disks, network card and other devices, in its definition and as it runs.

import { basename } from 'node:path'
import { isExpectedDevice } from '../audit/machine-items.ts'
import type { InspectedDisk, InspectedPort, MachineInspection } from '../host/inspection.ts'
import { type Difference, type DriftFacts, differs, shown } from './rule.ts'

const namedMax = 5

export function disks(facts: DriftFacts): Difference | undefined {
  const { vm, seedPath } = facts
  const { rootVolume, dataVolume, rootKey, dataKey } = vm.placement
  const wanted = [
    diskText('vda', pathOf(rootVolume, facts), rootKey ?? null),
    ...(dataVolume === null ? [] : [diskText('vdb', pathOf(dataVolume, facts), dataKey ?? null)])
  ]
  for (const machine of machines(facts)) {
    const is = machine.disks.filter((disk) => !isSeedDrive(disk, seedPath)).map(diskOf(facts))
    if (is.toSorted().join() !== wanted.toSorted().join()) return differs(shown(wanted), shown(is))
  }
  return undefined
}

export function volumesMissing({ volumes, vm: { placement } }: DriftFacts): Difference | undefined {
  if (volumes === undefined) return undefined
  const wanted = [placement.rootVolume, placement.dataVolume].filter((name) => name !== null)
  const missing = wanted.filter((name) => !volumes.has(name))
  return missing.length === 0 ? undefined : differs(shown(wanted), `without ${shown(missing)}`)
}

export function volumeSizes({ volumes, qcow2, vm }: DriftFacts): Difference | undefined {
  const { specification, placement } = vm
  const wanted = [
    [placement.rootVolume, specification.rootDiskBytes],
    [placement.dataVolume, specification.dataDiskBytes]
  ] as const
  for (const [name, sizeBytes] of wanted) {
    const volume = name === null || !qcow2.has(name) ? undefined : volumes?.get(name)
    if (volume !== undefined && sizeBytes !== undefined && volume.capacityBytes !== sizeBytes)
      return differs(`${name}: ${sizeBytes} bytes`, `${volume.capacityBytes} bytes`)
  }
  return undefined
}

export function networkCard(facts: DriftFacts): Difference | undefined {
  const { placement } = facts.vm
  const wanted = placement.trial
    ? []
    : [portText({ ...placement, network: placement.network, isolated: true, device: undefined })]
  for (const { ports } of machines(facts)) {
    const is = ports.map(portText)
    if (is.toSorted().join() !== wanted.toSorted().join()) return differs(shown(wanted), shown(is))
  }
  return undefined
}

export function devices(facts: DriftFacts): Difference | undefined {
  for (const { devices: found, passesArguments } of machines(facts)) {
    // Disks and cards have comparisons of their own.
    const extra = found.filter(
      ({ kind, model }) => kind !== 'disk' && kind !== 'interface' && !isExpectedDevice(kind, model)
    )
    const words = extra.slice(0, namedMax).map(({ kind, model }) => `${kind} ${model}`.trim())
    if (passesArguments) words.push('arguments for QEMU that libvirt does not understand')
    if (words.length > 0) return differs('those that hostlet gives', shown(words))
  }
  return undefined
}

function machines({ examination: { live, definition } }: DriftFacts): MachineInspection[] {
  return [live, definition].filter((machine) => machine !== undefined && machine !== null)
}

/** Of an empty drive, or with the seed that is to be taken out. */
function isSeedDrive({ isCd, path }: InspectedDisk, seedPath: string): boolean {
  return isCd && (path === null || path === seedPath)
}

function pathOf(volume: string, { volumes }: DriftFacts): string {
  return volumes?.get(volume)?.path ?? volume
}

/** Of a volume that is not known only the name can be compared. */
function diskOf(facts: DriftFacts): (disk: InspectedDisk) => string {
  return ({ target, path, keyId }) => {
    const name = basename(path ?? '')
    const known = facts.volumes?.has(name) === true
    return diskText(target, path === null ? 'nothing' : known ? path : name, keyId)
  }
}

function diskText(target: string, path: string, keyId: string | null): string {
  return `${target} ${path}${keyId === null ? '' : ` with key ${keyId}`}`
}

function portText({ macAddress, network, isolated }: InspectedPort): string {
  return `${macAddress.toLowerCase()} on ${network ?? 'no network'}${isolated ? '' : ', not isolated'}`
}
