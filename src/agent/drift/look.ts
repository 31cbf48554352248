// Gathers what the comparisons of one VM look at. What cannot be read leaves its comparisons out.

import type { DriftItem } from '../../protocol/drift.ts'
import type { Firewall } from '../firewall/firewall.ts'
import type { Hypervisor, VmRecord, Wait } from '../host/hypervisor.ts'
import type { Seeds } from '../host/seed.ts'
import type { Ledger } from '../inventory/ledger.ts'
import type { Keys } from '../keys/keys.ts'
import { driftIn } from './items.ts'

/** What of the host is looked at, and put right. */
export interface DriftHost {
  readonly hypervisor: Hypervisor
  readonly firewall: Pick<Firewall, 'fault' | 'refresh'>
  readonly keys: Pick<Keys, 'place' | 'supply'>
  readonly seeds: Pick<Seeds, 'path'>
  readonly ledger: Ledger
  readonly clock: { now(): number }
}

/** Differences of one VM as it is now. Throws what the hypervisor throws. */
export async function lookAtDrift(vm: VmRecord, host: DriftHost, wait: Wait): Promise<DriftItem[]> {
  const { hypervisor, firewall, keys, seeds, ledger, clock } = host
  const { uuid, name } = vm.specification
  const examination = await hypervisor.examine(name, wait)
  const volumes = await unless(wait, () => hypervisor.listVolumes(wait))
  const surveyed = await unless(wait, () => hypervisor.surveyVolumes(wait))
  // Where keys lie at the scheduler libvirt keeps none for longer than a start.
  const secrets = keys.place === 'host' ? await unless(wait, () => hypervisor.listSecrets(wait)) : undefined
  return driftIn({
    now: clock.now(),
    vm,
    examination,
    volumes: volumes && new Map(volumes.map((volume) => [volume.name, volume])),
    qcow2: new Set((surveyed ?? []).flatMap((volume) => (volume.format === 'qcow2' ? [volume.name] : []))),
    secrets: secrets && new Set(secrets.map(({ id }) => id)),
    generation: ledger.generationOf(uuid),
    firewallFault: firewall.fault?.message,
    seedPath: seeds.path(uuid)
  })
}

async function unless<Value>({ signal }: Wait, read: () => Promise<Value>): Promise<Value | undefined> {
  try {
    return await read()
  } catch {
    signal.throwIfAborted()
    return undefined
  }
}
