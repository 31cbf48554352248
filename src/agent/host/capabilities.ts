// What libvirt says that this host's hypervisor can do.

import { type Connection, connectGetCapabilities } from 'node-libvirt'
import { HostletError } from '../../errors.ts'
import type { Wait } from './hypervisor.ts'
import { attempt } from './libvirt-errors.ts'
import { find, findAll, readXml, type XmlNode } from './xml-read.ts'

export interface Capabilities {
  readonly architecture: string
  /** Whether libvirt offers KVM. Whether guests run in it is another question. */
  readonly kvmOffered: boolean
  /** Group that libvirt runs QEMU with. */
  readonly qemuGid: number
}

const deadlineMs = 30_000

/** Throws E_UNSUPPORTED where VMs cannot be kept apart by user. */
export async function readCapabilities(connection: Connection, wait: Wait): Promise<Capabilities> {
  const { capabilities } = await attempt('read capabilities', () =>
    connection.call(connectGetCapabilities, {}, { signal: wait.signal, deadlineMs })
  )
  return capabilitiesIn(capabilities)
}

export function capabilitiesIn(xml: string): Capabilities {
  const root = readXml(xml)
  const host = find(root, 'host')
  const architecture = find(host, 'cpu', 'arch')?.text ?? 'unknown'
  const guests = findAll(root, 'guest').map((guest) => find(guest, 'arch'))
  const own = guests.find((guest) => guest?.attributes.name === architecture)
  const kvmOffered = findAll(own, 'domain').some((domain) => domain.attributes.type === 'kvm')
  return { architecture, kvmOffered, qemuGid: qemuGidIn(host) }
}

/** The label is `+UID:+GID`. */
function qemuGidIn(host: XmlNode | undefined): number {
  const dac = findAll(host, 'secmodel').find((model) => find(model, 'model')?.text === 'dac')
  const gid = /^\+?[0-9]+:\+?([0-9]+)$/.exec(find(dac, 'baselabel')?.text ?? '')?.[1]
  if (gid !== undefined) return Number(gid)
  throw new HostletError(
    'E_UNSUPPORTED',
    'libvirt has no "dac" security driver here, so VMs cannot run under users of their own. Set security_driver in qemu.conf back to its default.'
  )
}
