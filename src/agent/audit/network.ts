// Whether the kernel has hostlet's rules for a VM's port: read with nft, as the firewall's own listing would be.

import { runProcess } from '../../lib/run-process.ts'
import type { Wait } from '../host/hypervisor.ts'
import type { MachineInspection } from '../host/inspection.ts'

export interface PortRules {
  /** Frames from the device and to it go to chains of their own, in the bridge family. */
  readonly bridge: boolean
  /** The table that routes is there, and has a drop of what it does not know. */
  readonly inet: boolean
}

const listMs = 20_000
const listingBytesMax = 64 * 1024 ** 2

type Listed = Readonly<
  Record<string, { readonly name?: unknown; readonly elem?: unknown; readonly hook?: unknown } | undefined>
>

/** Throws where nft is absent or not permitted. */
export async function readPortRules(
  { table, ports }: { table: string; ports: MachineInspection['ports'] },
  wait: Wait
): Promise<PortRules> {
  const [bridge, inet] = await Promise.all(['bridge', 'inet'].map((family) => list(family, table, wait)))
  const devices = ports.flatMap(({ device }) => device ?? [])
  return {
    bridge: devices.length > 0 && devices.every((device) => isLed(bridge ?? [], device)),
    inet: (inet ?? []).some(({ chain }) => chain?.hook === 'forward')
  }
}

/** Both maps, of what comes from ports and of what goes to them, have the device. */
export function isLed(objects: readonly Listed[], device: string): boolean {
  const leads = (name: string) =>
    objects.some(
      ({ map }) => map?.name === name && JSON.stringify(map.elem ?? []).includes(JSON.stringify(device))
    )
  return leads('from') && leads('to')
}

async function list(family: string, table: string, wait: Wait): Promise<readonly Listed[]> {
  const options = { ...wait, deadlineMs: listMs, outputBytesMax: listingBytesMax }
  const { exitCode, stdout, stderr } = await runProcess(
    'nft',
    ['-j', 'list', 'table', family, table],
    options
  )
  if (exitCode === 0) return (JSON.parse(stdout) as { nftables?: Listed[] }).nftables ?? []
  if (/No such file or directory/.test(stderr)) return []
  throw new Error(`nft: ${stderr.trim().split('\n')[0]}`)
}
