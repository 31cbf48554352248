// What a machine is like as the hypervisor runs it now: read from libvirt's own description, whatever the definition once said.

import {
  type Connection,
  domainGetAutostart,
  domainGetXmlDesc,
  domainIsPersistent,
  domainSetAutostart,
  domainXmlFlag
} from 'node-libvirt'
import { runOf } from './domain-looks.ts'
import type { Domains } from './domains.ts'
import type { Wait } from './hypervisor.ts'
import type { MachineExamination } from './inventory-port.ts'
import { attempt } from './libvirt-errors.ts'
import { find, findAll, readXml, type XmlNode } from './xml-read.ts'

export interface InspectedDevice {
  /** libvirt's name of the element: `disk`, `graphics`, `filesystem`. */
  readonly kind: string
  /** What it is in particular: `cdrom scsi`, `vnc`, `pty isa-serial`. */
  readonly model: string
}

export interface InspectedDisk {
  readonly target: string
  readonly isCd: boolean
  /** Null for an empty drive. */
  readonly path: string | null
  /** Id of libvirt's secret that opens it; null when it is not encrypted. */
  readonly keyId: string | null
  readonly bytesPerSecondMax: number | undefined
  readonly operationsPerSecondMax: number | undefined
}

export interface InspectedPort {
  /** Device of the host; absent while the machine is off. */
  readonly device: string | undefined
  readonly macAddress: string
  readonly network: string | undefined
  readonly isolated: boolean
}

export interface MachineInspection {
  readonly running: boolean
  readonly autostart: boolean
  readonly devices: readonly InspectedDevice[]
  readonly disks: readonly InspectedDisk[]
  readonly ports: readonly InspectedPort[]
  /** Security labels by model: `dac`, `apparmor`, `selinux`. */
  readonly labels: Readonly<Record<string, string>>
  /** Path of the log of the serial port. */
  readonly serialLog: string | null
  /** Arguments for QEMU that libvirt passes on without understanding them. */
  readonly passesArguments: boolean
  readonly inCoreDumps: boolean
  readonly sharesPages: boolean
  readonly memoryBytes: number
  readonly vcpus: number
  /** Percent of a core for the whole machine. */
  readonly cpuLimitPercent: number | undefined
  /** Cores of each vCPU that is pinned, as libvirt writes them. */
  readonly pins: readonly string[]
  /** Cores that its shared vCPUs may run on. */
  readonly cpuset: string | undefined
  /** Limits of the kernel's group of the machine, where there is one. */
  readonly memoryHardLimitBytes: number | undefined
}

const deadlineMs = 15_000
/** Kibibytes are libvirt's unit where none is written. */
const units: Readonly<Record<string, number>> = { b: 1, bytes: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 }

/** Throws E_NOT_FOUND, and E_CONFLICT for a domain that is not ours. */
export async function inspect(
  name: string,
  { domains, connection }: { domains: Pick<Domains, 'require'>; connection: Connection },
  wait: Wait
): Promise<MachineInspection> {
  const { domain } = await domains.require(name, wait)
  const options = { ...wait, deadlineMs }
  return await attempt(`inspect VM ${name}`, async () => {
    const { xml } = await connection.call(domainGetXmlDesc, { domain, flags: 0 }, options)
    const { autostart } = await connection.call(domainGetAutostart, { domain }, options)
    return inspectionIn(xml, { running: runOf(domain) !== null, autostart: Boolean(autostart) })
  })
}

/** The definition and the machine apart. Throws as `inspect`. */
export async function examine(
  name: string,
  { domains, connection }: { domains: Pick<Domains, 'require'>; connection: Connection },
  wait: Wait
): Promise<MachineExamination> {
  const { domain } = await domains.require(name, wait)
  const options = { ...wait, deadlineMs }
  return await attempt(`examine VM ${name}`, async () => {
    const { persistent } = await connection.call(domainIsPersistent, { domain }, options)
    // A domain without a definition has no such flag to read.
    const autostart =
      Boolean(persistent) &&
      Boolean((await connection.call(domainGetAutostart, { domain }, options)).autostart)
    const read = async (flags: number, running: boolean) =>
      inspectionIn((await connection.call(domainGetXmlDesc, { domain, flags }, options)).xml, {
        running,
        autostart
      })
    const running = runOf(domain) !== null
    return {
      running,
      autostart,
      definition: persistent ? await read(domainXmlFlag.inactive, false) : null,
      live: running ? await read(0, true) : undefined
    }
  })
}

/** Has libvirt not start the VM by itself. */
export async function clearAutostart(
  name: string,
  { domains, connection }: { domains: Pick<Domains, 'require'>; connection: Connection },
  wait: Wait
): Promise<void> {
  const { domain } = await domains.require(name, wait)
  await attempt(`clear the autostart of VM ${name}`, () =>
    connection.call(domainSetAutostart, { domain, autostart: false }, { ...wait, deadlineMs })
  )
}

export function inspectionIn(
  xml: string,
  { running, autostart }: { running: boolean; autostart: boolean }
): MachineInspection {
  const domain = readXml(xml)
  const devices = find(domain, 'devices')
  const serial = findAll(devices, 'serial').map((port) => find(port, 'log')?.attributes.file)
  return {
    running,
    autostart,
    devices: (devices?.children ?? []).filter(({ name }) => name !== 'emulator').map(deviceOf),
    disks: findAll(devices, 'disk').map(diskOf),
    ports: findAll(devices, 'interface').map(portOf),
    labels: Object.fromEntries(
      findAll(domain, 'seclabel').map((label) => [
        label.attributes.model ?? '',
        find(label, 'label')?.text ?? ''
      ])
    ),
    serialLog: serial.find((file) => file !== undefined) ?? null,
    passesArguments: domain.children.some(
      ({ name, children }) => /:(commandline|override)$/.test(name) && children.length > 0
    ),
    inCoreDumps: find(domain, 'memory')?.attributes.dumpCore !== 'off',
    sharesPages: find(domain, 'memoryBacking', 'nosharepages') === undefined,
    memoryBytes: bytesOf(find(domain, 'memory')) ?? 0,
    vcpus: Number(find(domain, 'vcpu')?.text ?? 0),
    ...limitsOf(domain)
  }
}

function limitsOf(domain: XmlNode) {
  const tune = find(domain, 'cputune')
  const quota = Number(find(tune, 'global_quota')?.text ?? Number.NaN)
  const period = Number(find(tune, 'global_period')?.text ?? Number.NaN)
  return {
    cpuLimitPercent: Number.isNaN(quota / period) ? undefined : Math.round((quota / period) * 100),
    pins: findAll(tune, 'vcpupin').map(({ attributes }) => attributes.cpuset ?? ''),
    cpuset: find(domain, 'vcpu')?.attributes.cpuset,
    memoryHardLimitBytes: bytesOf(find(domain, 'memtune', 'hard_limit'))
  }
}

function deviceOf(node: XmlNode): InspectedDevice {
  const { attributes, name: kind } = node
  const model = find(node, 'model')?.attributes
  const target = find(node, 'target')?.attributes
  const words = {
    disk: [attributes.device, target?.bus],
    interface: [attributes.type, model?.type],
    controller: [attributes.type, attributes.model],
    serial: [attributes.type, target?.type],
    console: [attributes.type, target?.type],
    channel: [attributes.type, target?.type, target?.name],
    input: [attributes.type, attributes.bus],
    video: [model?.type],
    watchdog: [attributes.model],
    memballoon: [attributes.model],
    rng: [attributes.model],
    panic: [attributes.model]
  } as const
  const known = Object.hasOwn(words, kind)
    ? words[kind as keyof typeof words]
    : [attributes.type, attributes.model]
  return { kind, model: known.filter((word) => word !== undefined).join(' ') }
}

function diskOf(node: XmlNode): InspectedDisk {
  const source = find(node, 'source')
  const secret = find(source, 'encryption', 'secret') ?? find(node, 'encryption', 'secret')
  const limit = (name: string) => {
    const text = find(node, 'iotune', name)?.text
    return text === undefined ? undefined : Number(text)
  }
  return {
    target: find(node, 'target')?.attributes.dev ?? '',
    isCd: node.attributes.device === 'cdrom',
    path: source?.attributes.file ?? null,
    keyId: secret?.attributes.uuid ?? null,
    bytesPerSecondMax: limit('total_bytes_sec'),
    operationsPerSecondMax: limit('total_iops_sec')
  }
}

function portOf(node: XmlNode): InspectedPort {
  return {
    device: find(node, 'target')?.attributes.dev,
    macAddress: find(node, 'mac')?.attributes.address ?? '',
    network: find(node, 'source')?.attributes.network,
    isolated: find(node, 'port')?.attributes.isolated === 'yes'
  }
}

function bytesOf(node: XmlNode | undefined): number | undefined {
  if (node === undefined) return undefined
  return Number(node.text) * (units[node.attributes.unit ?? 'KiB'] ?? Number.NaN)
}
