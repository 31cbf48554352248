// The state of a host in lines that two hosts to which the same happened have alike: what is random in it is left out.

import { createHash } from 'node:crypto'
import { globSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { VmRecord } from '../../../src/agent/host/hypervisor.ts'
import type { World } from './world.ts'

const wait = () => ({ signal: AbortSignal.timeout(30_000) })
/**
 * The journal, and files of SQLite: what is in them is told by what the agent answers. The audit trail, which is verified
 * besides. What belongs to nobody, which is looked for when there is time. When a machine started is not known
 * where the agent that saw it was killed before it wrote that down.
 */
const ownFiles = /^(state\/(agent\.db|audit\/)|run\/(vm-starts|leftovers)\.json)/

export async function digestOf(world: World, directory: string): Promise<string[]> {
  const { hypervisor } = world
  const vms = await hypervisor.listVms(wait())
  const networks = await hypervisor.listNetworks(wait())
  const lines: string[] = vms.map(vmLine)
  for (const { specification } of vms) {
    const { autostart, definition } = await hypervisor.examine(specification.name, wait())
    lines.push(`machine of ${specification.name} ${digest({ autostart, definition })}`)
    const names = await hypervisor.listCheckpoints(specification.name, wait())
    lines.push(...names.map(() => `checkpoint of ${specification.name}`))
    if (hypervisor.backups.hasJob(specification.name)) lines.push(`backup job of ${specification.name}`)
  }
  for (const { name, capacityBytes } of await hypervisor.listVolumes(wait()))
    lines.push(`volume ${name} of ${capacityBytes}`)
  for (const { name } of networks) {
    lines.push(`network ${name}`)
    for (const { address } of await hypervisor.listReservations(name, wait()))
      lines.push(`reservation ${address}`)
  }
  lines.push(...[...hypervisor.secrets.keys()].map(() => 'secret'))
  const rules = await world.nft.read('hostlet', wait())
  lines.push(`${rules.length} rules ${digest(rules)}`)
  lines.push(...filesOf(directory))
  return lines.map(withoutRandom).sort()
}

/** Of what takes pages, without the ids in it. */
function digest(value: unknown): string {
  return createHash('sha256')
    .update(withoutRandom(JSON.stringify(value)))
    .digest('hex')
    .slice(0, 12)
}

function vmLine({
  specification,
  placement,
  state,
  wanted,
  run,
  retained,
  backupSchedule
}: VmRecord): string {
  const { rootKey, dataKey, ...placed } = placement
  const keys = [rootKey, dataKey].map((key) => key !== undefined)
  return `vm ${JSON.stringify({ specification, placed, keys, state, wanted, run, retained: retained !== undefined, backupSchedule })}`
}

/** Names of files, without those of packs: what a backup that was killed has packed stays until the next prune. */
function filesOf(directory: string): string[] {
  return (
    globSync('{state,run,repository,pool,exports}/**', { cwd: directory, dot: true } as object)
      .filter((path) => !ownFiles.test(path) && statSync(join(directory, path)).isFile())
      // One that is half-written under a name that the next one has too takes the place of none.
      .filter((path) => !path.includes('/packs/') && !/^run\/[a-z-]+\.json\.new$/.test(path))
      .map(
        (path) =>
          `file ${path}${path.includes('seeds') ? ` ${readFileSync(join(directory, path)).length}` : ''}`
      )
  )
}

const known = '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'

function withoutRandom(line: string): string {
  return line
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, (uuid) =>
      uuid === known ? uuid : '<uuid>'
    )
    .replace(/\b[0-9a-f]{16}\b/g, '<token>')
    .replace(/\/agents\/[a-z0-9-]+\//g, '/')
}

/** Lines that one has and the other lacks. */
export function difference(expected: readonly string[], actual: readonly string[]): string[] {
  const left = [...expected]
  const added: string[] = []
  for (const line of actual) {
    const at = left.indexOf(line)
    if (at < 0) added.push(`+ ${line}`)
    else left.splice(at, 1)
  }
  return [...left.map((line) => `- ${line}`), ...added]
}
