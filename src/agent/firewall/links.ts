// The host's network devices as the kernel shows them: ports of a bridge, and whether packets are forwarded.

import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { BridgePort } from './inventory.ts'

export interface Links {
  /** Ports of a bridge; none where there is no such bridge. */
  portsOf(bridge: string): Promise<readonly BridgePort[]>
}

export const noLinks: Links = { portsOf: async () => [] }

const devices = '/sys/class/net'

export const systemLinks: Links = {
  portsOf: async (bridge) => {
    const names = await readdir(join(devices, bridge, 'brif')).catch(absent)
    const ports = await Promise.all(names.map(portOf))
    return ports.filter((port) => port !== undefined)
  }
}

/** Undefined when it went away meanwhile. */
async function portOf(name: string): Promise<BridgePort | undefined> {
  try {
    return { name, macAddress: (await readFile(join(devices, name, 'address'), 'utf8')).trim() }
  } catch {
    return undefined
  }
}

function absent(error: NodeJS.ErrnoException): string[] {
  if (error.code === 'ENOENT') return []
  throw error
}
