// Which ports of the host lead to which VM: checked before a VM claims its own.

import { readFile } from 'node:fs/promises'
import { HostletError } from '../../errors.ts'
import { type PortMapping, transports, type VmSpecification } from '../../protocol/vm.ts'
import type { FirewallSubject } from './inventory.ts'

export interface PortRange {
  readonly first: number
  readonly last: number
}

/** Ports that something on the host listens on: `tcp 22`. */
export type ListeningPorts = () => Promise<ReadonlySet<string>>

/** A domain that is quarantined, with the ports that were its own. */
export interface PortHolder {
  readonly name: string
  readonly hostPorts: readonly Pick<PortMapping, 'transport' | 'hostPort'>[]
}

/** Throws E_BAD_REQUEST for a port outside of the host's range, or one that is asked for twice. */
export function checkMappings({ name, network }: VmSpecification, range: PortRange): void {
  const seen = new Set<string>()
  for (const mapping of network?.ports ?? []) {
    const { hostPort, transport } = mapping
    const fault = (text: string) =>
      new HostletError('E_BAD_REQUEST', `VM ${name} asks for ${describe(mapping)}: ${text}`, {
        details: { vm: name, hostPort, transport }
      })
    if (hostPort < range.first || hostPort > range.last)
      throw fault(`this host maps the ports ${range.first} to ${range.last}. Choose one of them.`)
    if (seen.has(keyOf(mapping))) throw fault('it is there twice. Give each host port once.')
    seen.add(keyOf(mapping))
  }
}

/** Throws E_CONFLICT when another VM has one of the ports, or something on the host listens there. */
export async function requireFree(
  { name, uuid, network }: VmSpecification,
  vms: readonly FirewallSubject[],
  { listening, foreign }: { listening: ListeningPorts; foreign: () => Promise<readonly PortHolder[]> }
): Promise<void> {
  const wanted = network?.ports ?? []
  if (wanted.length === 0) return
  const taken = takenBy(vms.filter(({ specification }) => specification.uuid !== uuid))
  for (const { name: holder, hostPorts } of await foreign())
    for (const port of hostPorts) taken.set(keyOf(port), holder)
  const busy = await listening()
  for (const mapping of wanted) {
    const holder = taken.get(keyOf(mapping))
    const what =
      holder !== undefined
        ? `VM ${holder} has it`
        : busy.has(keyOf(mapping))
          ? 'a program on the host listens there'
          : undefined
    if (what === undefined) continue
    throw new HostletError(
      'E_CONFLICT',
      `VM ${name} asks for ${describe(mapping)}: ${what}. Choose another port, or free that one.`,
      { details: { vm: name, hostPort: mapping.hostPort, transport: mapping.transport } }
    )
  }
}

function takenBy(vms: readonly FirewallSubject[]): Map<string, string> {
  return new Map(
    vms.flatMap(({ specification }) =>
      (specification.network?.ports ?? []).map((mapping) => [keyOf(mapping), specification.name] as const)
    )
  )
}

function keyOf({ transport, hostPort }: Pick<PortMapping, 'transport' | 'hostPort'>): string {
  return `${transport} ${hostPort}`
}

function describe({ transport, hostPort }: PortMapping): string {
  return `port ${hostPort} (${transport}) of the host`
}

/** TCP's state of a listener, and of a UDP socket that is bound (proc(5)). */
const openStates = { tcp: '0A', udp: '07' } as const

export const hostListening: ListeningPorts = async () => {
  const found = new Set<string>()
  for (const transport of transports) {
    for (const version of ['', '6']) {
      const text = await readFile(`/proc/net/${transport}${version}`, 'utf8').catch(() => '')
      for (const port of portsIn(text, openStates[transport])) found.add(`${transport} ${port}`)
    }
  }
  return found
}

/** `  0: 0100007F:0016 00000000:0000 0A …` */
export function portsIn(text: string, state: string): number[] {
  const sockets = text.matchAll(/^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} ([0-9A-F]{2}) /gm)
  return [...sockets].flatMap(([, port = '', is]) => (is === state ? [Number.parseInt(port, 16)] : []))
}
