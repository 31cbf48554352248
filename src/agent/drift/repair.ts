// Puts right what of a VM can be put right without harm: limits, autostart, its definition, rules, keys in libvirt. Never its disks.

import type { DriftItem } from '../../protocol/drift.ts'
import type { VmRecord, Wait } from '../host/hypervisor.ts'
import type { DriftHost } from './look.ts'

type Way = (vm: VmRecord, host: DriftHost, wait: Wait) => Promise<void>

/** The machine that runs as its metadata says. */
const shapeLive: Way = ({ specification: { name } }, { hypervisor }, wait) =>
  hypervisor.reshape(name, {}, wait)
/** Its definition too, in sizes and limits. */
const shapeAll: Way = ({ specification: { name } }, { hypervisor }, wait) =>
  hypervisor.reshape(name, { sizes: {} }, wait)

const ways: Readonly<Record<string, Way>> = {
  autostart: ({ specification: { name } }, { hypervisor }, wait) => hypervisor.clearAutostart(name, wait),
  definition: redefine,
  memory: shapeAll,
  cpus: shapeAll,
  'cpu-limit': shapeLive,
  cores: shapeLive,
  'disk-limits': shapeLive,
  'keys-in-libvirt': (vm, { keys }, wait) => keys.supply.supply(vm, wait),
  rules: (_vm, { firewall }, wait) => firewall.refresh(wait)
}

export function isRepairable({ id, repair }: Pick<DriftItem, 'id' | 'repair'>): boolean {
  return repair !== 'operator' && Object.hasOwn(ways, id)
}

/** `wanted` of all that was found: one after the other, each way once. What is thrown ends it: the next look tells what is left. */
export async function repairDrift(
  vm: VmRecord,
  { wanted, found }: { wanted: readonly DriftItem[]; found: readonly DriftItem[] },
  host: DriftHost,
  wait: Wait
): Promise<void> {
  const ids = new Set(wanted.filter(isRepairable).map(({ id }) => id))
  // Before all others, which write to it.
  if (ids.has('definition')) await redefine(vm, host, wait)
  // A limit that stands in the definition is written there only where nothing else of it waits for a person.
  const isWhole = found.every(({ id }) => (id !== 'memory' && id !== 'cpus') || ids.has(id))
  const done = new Set<Way>([redefine])
  for (const id of ids) {
    const way = ways[id] === shapeLive && isWhole ? shapeAll : ways[id]
    if (way === undefined || done.has(way)) continue
    done.add(way)
    await way(vm, host, wait)
  }
}

/**
 * Writes the definition of a machine that runs without one, from its own metadata: of the time when it was started, so that
 * it counts as wanted to run, and is of the newest generation that is on record.
 */
async function redefine(vm: VmRecord, { hypervisor, ledger }: DriftHost, wait: Wait): Promise<void> {
  const { state: _state, reason: _reason, run: _run, ...definition } = vm
  const generation = Math.max(vm.generation, ledger.generationOf(vm.specification.uuid) ?? 0)
  await hypervisor.define({ ...definition, generation, wanted: 'running', seedPath: null }, wait)
}
