// Options of a VM's network: egress, published ports and rates, as `hostlet vm create` takes them, and ports as they are shown.

import type { Command } from 'commander'
import { HostletError } from '../errors.ts'
import { type Egress, egressModes, type PortMapping, transports, type VmNetwork } from '../protocol/vm.ts'
import { parseBytes, parseInteger } from './quantities.ts'

export interface NetworkOptions {
  readonly egress?: string
  readonly egressTo?: readonly string[]
  /** False with `--no-dns`. */
  readonly dns: boolean
  readonly publish?: readonly string[]
  readonly receiveLimit?: string
  readonly transmitLimit?: string
}

export function declareNetwork(command: Command): void {
  command
    .option(
      '--egress <mode>',
      'what it may reach: none, web (TCP 80, 443) or all (default: as its profile says)'
    )
    .option(
      '--egress-to <target>',
      'may reach this and nothing else: tcp:203.0.113.0/24:443,8443 or udp:198.51.100.7; may be repeated',
      collect
    )
    .option('--no-dns', 'may ask no resolver')
    .option(
      '--publish <ports>',
      'lead a port of the host to it: 20080:80, 20053:53/udp, 20022:22@203.0.113.0/24; may be repeated',
      collect
    )
    .option('--receive-limit <size>', 'most bytes a second to it, such as 10MiB')
    .option('--transmit-limit <size>', 'most bytes a second from it')
}

/** Undefined where nothing is asked for. Throws E_BAD_REQUEST for what cannot be read. */
export function networkOf(options: NetworkOptions): VmNetwork | undefined {
  const egress = egressOf(options)
  const { publish, receiveLimit, transmitLimit } = options
  const network: VmNetwork = {
    ...(egress === undefined ? {} : { egress }),
    ...(options.dns ? {} : { dns: false }),
    ...(receiveLimit === undefined ? {} : { receiveBytesPerSecondMax: parseBytes(receiveLimit) }),
    ...(transmitLimit === undefined ? {} : { transmitBytesPerSecondMax: parseBytes(transmitLimit) }),
    ...(publish === undefined ? {} : { ports: publish.map(portMapping) })
  }
  return Object.keys(network).length === 0 ? undefined : network
}

function egressOf({ egress, egressTo }: NetworkOptions): Egress | undefined {
  if (egressTo !== undefined && egress !== undefined)
    throw new HostletError('E_BAD_REQUEST', '--egress-to is a list of its own: leave --egress out.')
  if (egressTo !== undefined) return { mode: 'list', allow: egressTo.map(egressTarget) }
  const mode = egressModes.find((each) => each === egress && each !== 'list')
  if (egress !== undefined && mode === undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      `--egress: ${egress} is none of none, web, all. Take one of them.`
    )
  return mode === undefined ? undefined : { mode }
}

function egressTarget(text: string): NonNullable<Egress['allow']>[number] {
  const [, word, address, ports] = /^([a-z]+):([0-9./]+)(?::([0-9,]+))?$/.exec(text) ?? []
  const transport = transports.find((each) => each === word)
  if (transport === undefined || address === undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      `--egress-to: ${text} is not as tcp:203.0.113.0/24:443 or udp:198.51.100.7. Write it so.`
    )
  const numbers = ports?.split(',').map((port) => portNumber(port, '--egress-to'))
  return { transport, addresses: [address], ...(numbers && { ports: numbers }) }
}

/** HOST:VM[/udp][@SOURCE[,SOURCE]] */
function portMapping(text: string): PortMapping {
  const [, host, vm, word = 'tcp', sources] =
    /^([0-9]+):([0-9]+)(?:\/([a-z]+))?(?:@([0-9./,]+))?$/.exec(text) ?? []
  const transport = transports.find((each) => each === word)
  if (host === undefined || vm === undefined || transport === undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      `--publish: ${text} is not as 20080:80, 20053:53/udp or 20022:22@203.0.113.0/24. Write it so.`
    )
  const mapping = { transport, hostPort: portNumber(host, '--publish'), vmPort: portNumber(vm, '--publish') }
  return sources === undefined ? mapping : { ...mapping, sources: sources.split(',') }
}

/** The way back: as it would be given. */
export function describeMapping({ transport, hostPort, vmPort, sources }: PortMapping): string {
  const kind = transport === 'tcp' ? '' : `/${transport}`
  return `${hostPort}:${vmPort}${kind}${sources === undefined ? '' : `@${sources.join(',')}`}`
}

export function describeEgress({ mode, allow = [] }: Egress): string {
  if (mode !== 'list') return mode
  return allow
    .flatMap(({ transport, addresses, ports }) =>
      addresses.map((address) => `${transport}:${address}${ports === undefined ? '' : `:${ports.join(',')}`}`)
    )
    .join(' ')
}

function portNumber(text: string, what: string): number {
  return parseInteger(text, { what, minimum: 1, maximum: 65_535 })
}

function collect(given: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), given]
}
