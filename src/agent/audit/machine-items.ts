// Items about the machine as libvirt runs it: its devices, disks, network port and limits.

import type { InspectedDevice, InspectedDisk } from '../host/inspection.ts'
import type { AuditFacts } from './facts.ts'
import { type Answer, type Item, no, unknown, yes } from './item.ts'

/** Every device that a machine of ours may have, those that libvirt adds to each included. What is not here is one too many. */
export const expectedDevices: Readonly<Record<string, RegExp>> = {
  disk: /^(disk virtio|cdrom scsi)$/,
  // SATA and the ports of PCI Express are part of the chipset; no disk is on SATA.
  controller: /^(usb none|sata|pci pcie-(root|root-port|to-pci-bridge)|virtio-serial|scsi virtio-scsi)$/,
  interface: /^network virtio$/,
  serial: /^pty( isa-serial)?$/,
  console: /^pty serial$/,
  channel: /^unix virtio org\.qemu\.guest_agent\.0$/,
  // Of the chipset, which cannot be had without: nobody is at them.
  input: /^(mouse|keyboard) ps2$/,
  audio: /^none$/,
  video: /^none$/,
  watchdog: /^itco$/,
  memballoon: /^virtio$/,
  rng: /^virtio$/,
  panic: /^isa$/
}

const sharing = new Set(['filesystem', 'shmem', 'hostdev', 'redirdev', 'smartcard', 'vsock'])
const namedMax = 5

export const machineItems: readonly Item[] = [
  {
    id: 'no-shared-folders',
    title: 'shares nothing with the host',
    judge: ({ inspection }) => {
      const shared = inspection.devices.filter(({ kind }) => sharing.has(kind))
      return shared.length === 0 ? yes('no folder, memory or device of the host') : no(named(shared))
    }
  },
  {
    id: 'no-display',
    title: 'no VNC or SPICE',
    judge: ({ inspection }) => {
      const displays = inspection.devices.filter(({ kind }) => kind === 'graphics')
      return displays.length === 0 ? yes('no display') : no(named(displays))
    }
  },
  {
    id: 'no-serial-log',
    title: 'no serial log unless asked for',
    judge: ({ inspection, vm }) => {
      if (inspection.serialLog === null) return yes('none')
      return vm.specification.consoleLog === true
        ? yes('asked for by its specification')
        : no(`logged to ${inspection.serialLog}, and nobody asked`)
    }
  },
  {
    id: 'devices',
    title: 'no device too many',
    judge: ({ inspection: { devices, passesArguments } }) => {
      if (passesArguments) return no('libvirt passes arguments to QEMU that it does not understand')
      const extra = devices.filter(({ kind, model }) => !isExpectedDevice(kind, model))
      return extra.length === 0 ? yes(`${devices.length}, each expected`) : no(named(extra))
    }
  },
  { id: 'encrypted', title: 'disks encrypted', judge: encrypted },
  { id: 'seed-gone', title: 'seed gone', judge: seedGone },
  {
    id: 'autostart',
    title: 'not started by libvirt',
    judge: ({ inspection: { autostart } }) =>
      autostart ? no('autostart is set: it would start before rules and keys') : yes('autostart is off')
  },
  {
    id: 'own-memory',
    title: 'memory merged with nobody',
    judge: ({ inspection: { sharesPages } }) =>
      sharesPages ? no('the kernel may merge its pages with those of others') : yes('nosharepages')
  },
  {
    id: 'isolated-port',
    title: 'network port isolated',
    judge: ({ inspection: { ports }, vm }) => {
      if (ports.length !== 1) return no(`${ports.length} network cards instead of one`)
      const [port] = ports
      if (port?.isolated !== true) return no(`port ${port?.device ?? ''} reaches other ports of its bridge`)
      const { macAddress, network } = vm.placement
      if (port.macAddress !== macAddress) return no(`has MAC ${port.macAddress}, placed with ${macAddress}`)
      return port.network === network
        ? yes(`${port.device ?? 'port'} on ${network}`)
        : no(`is on ${port.network ?? 'no network'}, placed on ${network}`)
    }
  },
  {
    id: 'firewall',
    title: 'rules in force at its port',
    judge: ({ inspection, rules }) => {
      if (!inspection.running) return unknown('the VM is off')
      if ('unreadable' in rules) return unknown(rules.unreadable)
      if (!rules.bridge) return no('the kernel has no rules of the bridge family for its port')
      return rules.inet ? yes('both families, looked up in the kernel') : no('the table that routes is gone')
    }
  },
  {
    id: 'network-policy',
    title: 'egress, DNS and ports as applied',
    judge: ({ firewallFault, vm, profile }) => {
      if (firewallFault !== null) return no(firewallFault)
      const { egress, dns, ports } = vm.specification.network ?? {}
      const words = [
        `egress ${(egress ?? profile?.egress)?.mode ?? 'none'}`,
        `DNS ${(dns ?? profile?.dns) ? 'on' : 'off'}`,
        `${ports?.length ?? 0} ports mapped`
      ]
      return yes(words.join(', '))
    }
  },
  { id: 'cpu', title: 'processors as placed', judge: processors },
  {
    id: 'memory',
    title: 'memory limited',
    judge: ({ inspection: { memoryBytes, memoryHardLimitBytes: hard }, vm }) => {
      const wanted = vm.specification.memoryBytes
      if (memoryBytes !== wanted) return no(`has ${mebibytes(memoryBytes)}, specified ${mebibytes(wanted)}`)
      return yes(
        `${mebibytes(wanted)}${hard === undefined ? '' : `, QEMU with all it needs ${mebibytes(hard)}`}`
      )
    }
  },
  { id: 'disk-limits', title: 'disks limited as placed', judge: diskLimits }
]

export function isExpectedDevice(kind: string, model: string): boolean {
  return Object.hasOwn(expectedDevices, kind) && expectedDevices[kind]?.test(model) === true
}

function named(devices: readonly InspectedDevice[]): string {
  return devices
    .slice(0, namedMax)
    .map(({ kind, model }) => `${kind} ${model}`.trim())
    .join(', ')
}

function encrypted({ inspection, vm, profile }: AuditFacts): Answer {
  const disks = inspection.disks.filter(({ isCd }) => !isCd)
  const open = disks.filter(({ keyId }) => keyId === null)
  if (open.length > 0) {
    const wanted = profile?.encryption === false ? ': its profile does not ask for it' : ''
    return no(`${open.map(({ target }) => target).join(', ')} can be read by whoever has the file${wanted}`)
  }
  const placed = keysOf(vm.placement)
  const stray = disks.find(({ target, keyId }) => placed[target] !== undefined && placed[target] !== keyId)
  if (stray !== undefined) return no(`${stray.target} is opened with key ${stray.keyId}, placed with another`)
  return yes(disks.map(({ target, keyId }) => `${target} with key ${keyId}`).join(', '))
}

/** Ids of the keys by disk, where the placement has them. */
function keysOf(placement: object): Readonly<Record<string, string | undefined>> {
  const { rootKey, dataKey } = placement as { rootKey?: string; dataKey?: string }
  return { vda: rootKey, vdb: dataKey }
}

function seedGone({ inspection: { disks } }: AuditFacts): Answer {
  const loaded = disks.find(({ isCd, path }) => isCd && path !== null)
  if (loaded === undefined) return yes('no medium in the drive')
  return no(`${loaded.path} is in the drive: it goes once the guest is up`)
}

function processors({ inspection, vm, profile }: AuditFacts): Answer {
  const { cpus, cpuLimitPercent } = vm.specification
  if (inspection.vcpus !== cpus) return no(`has ${inspection.vcpus} vCPUs, specified ${cpus}`)
  if (cpuLimitPercent !== inspection.cpuLimitPercent)
    return no(
      `limited to ${inspection.cpuLimitPercent ?? 'no'} %, specified ${cpuLimitPercent ?? 'no limit'}`
    )
  if (profile === undefined) return unknown('its profile is not configured any more')
  if (profile.cpu === 'pinned')
    return inspection.pins.length === cpus
      ? yes(`vCPUs on cores ${inspection.pins.join('; ')}`)
      : no(`${inspection.pins.length} of ${cpus} vCPUs have cores of their own`)
  const cores = inspection.cpuset === undefined ? 'shared cores' : `shared cores ${inspection.cpuset}`
  return yes(cpuLimitPercent === undefined ? cores : `${cores}, ${cpuLimitPercent} % of one at most`)
}

function diskLimits({ inspection, vm, profile }: AuditFacts): Answer {
  const wanted = { ...profile?.diskLimits, ...vm.specification.diskLimits }
  const disks = inspection.disks.filter(({ isCd }) => !isCd)
  const wrong = disks.find((disk) => !isWithin(disk, wanted))
  if (wrong !== undefined) return no(`${wrong.target} has ${limitText(wrong)}, to be ${limitText(wanted)}`)
  return yes(limitText(wanted))
}

type Limits = { readonly [Name in 'bytesPerSecondMax' | 'operationsPerSecondMax']?: number | undefined }

function isWithin(disk: InspectedDisk, wanted: Limits): boolean {
  const within = (is: number | undefined, most: number | undefined) =>
    most === undefined || (is !== undefined && is > 0 && is <= most)
  return (
    within(disk.bytesPerSecondMax, wanted.bytesPerSecondMax) &&
    within(disk.operationsPerSecondMax, wanted.operationsPerSecondMax)
  )
}

function limitText({ bytesPerSecondMax: bytes, operationsPerSecondMax: operations }: Limits): string {
  const words = [
    ...(bytes === undefined ? [] : [`${bytes} bytes a second`]),
    ...(operations === undefined ? [] : [`${operations} operations a second`])
  ]
  return words.length === 0 ? 'no limit of its own' : words.join(', ')
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 1024 ** 2)} MiB`
}
