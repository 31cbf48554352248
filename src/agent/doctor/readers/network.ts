// Devices, routes and ports of the host, as the kernel lists them.

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { LinkFacts, RouteFacts } from '../facts.ts'
import { namesIn, textOf } from './files.ts'

/** Of /proc/net/tcp: `0A` is LISTEN (include/net/tcp_states.h). */
const listenState = '0A'
/** linux/route.h */
const routeUp = 0x1
const routeByGateway = 0x2

export async function links(root = '/'): Promise<LinkFacts[]> {
  const directory = join(root, 'sys', 'class', 'net')
  return await Promise.all(
    (await namesIn(directory)).map(async (name) => {
      const inside: string[] = await namesIn(join(directory, name)).catch(() => [])
      const ports = await namesIn(join(directory, name, 'brif'))
      const isHardware = await Promise.all(
        ports.map(async (port) => (await namesIn(join(directory, port))).includes('device'))
      )
      return {
        name,
        isBridge: inside.includes('bridge'),
        hardwarePorts: ports.filter((_port, index) => isHardware[index])
      }
    })
  )
}

/** Of the main table, but for the default route. */
export async function routes(root = '/'): Promise<RouteFacts[]> {
  const [, ...lines] = (await readFile(join(root, 'proc', 'net', 'route'), 'utf8')).trim().split('\n')
  return lines.flatMap((line) => {
    const [device = '', destination = '', , flags = '', , , , mask = ''] = line.trim().split(/\s+/)
    const bits = Number.parseInt(flags, 16)
    const length = lengthOf(mask)
    if ((bits & routeUp) === 0 || length === 0) return []
    return [
      { device, network: `${dotted(destination)}/${length}`, hasGateway: (bits & routeByGateway) !== 0 }
    ]
  })
}

export async function listeningPorts(root = '/'): Promise<number[]> {
  const texts = await Promise.all(
    ['tcp', 'tcp6'].map(async (name) => (await textOf(join(root, 'proc', 'net', name))) ?? '')
  )
  const ports = texts
    .flatMap((text) => text.split('\n').slice(1))
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , , state]) => state === listenState)
    .map(([, local = '']) => Number.parseInt(local.split(':').at(-1) ?? '', 16))
  return [...new Set(ports)].toSorted((one, other) => one - other)
}

/** Ports that the kernel gives to outgoing connections. */
export async function localPorts(root = '/'): Promise<{ first: number; last: number }> {
  const text = await readFile(join(root, 'proc/sys/net/ipv4/ip_local_port_range'), 'utf8')
  const [first = 0, last = 0] = text.trim().split(/\s+/).map(Number)
  return { first, last }
}

/** Least significant byte first, as the kernel prints it on these processors. */
function dotted(hex: string): string {
  return (hex.match(/../g) ?? [])
    .toReversed()
    .map((byte) => Number.parseInt(byte, 16))
    .join('.')
}

function lengthOf(mask: string): number {
  return [...Number.parseInt(mask, 16).toString(2)].filter((bit) => bit === '1').length
}
