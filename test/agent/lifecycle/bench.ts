// A host whose VMs have encrypted disks, enrolled, with a repository: for the end of VMs.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Hypervisor, VmRecord } from '../../../src/agent/host/hypervisor.ts'
import { profileOf } from '../../../src/agent/profiles.ts'
import type { EraseCertificate } from '../../../src/protocol/lifecycle.ts'
import { verifyEraseCertificate } from '../../../src/scheduler/erasures.ts'
import { trustDomain } from '../../support/test-authority.ts'
import { type BackupBench, type BackupBenchOptions, makeBackupBench, vm, wait } from '../backups/bench.ts'
import { succeed } from '../verbs/bench.ts'

export interface LifeOptions extends BackupBenchOptions {
  readonly encrypted?: boolean
}

/** Keys of the disks of a VM, as if these were encrypted: formatting one for true takes seconds. */
export async function keepKeys(made: BackupBench): Promise<{ rootKey: string; dataKey: string }> {
  const { specification, placement } = await recordOf(made)
  const [rootKey, dataKey] = [randomUUID(), randomUUID()]
  const keep = (id: string, volume: string) =>
    made.host.keys.disks.keep({ id, vm: specification, volume, passphrase: randomUUID() })
  await keep(rootKey, placement.rootVolume)
  await keep(dataKey, String(placement.dataVolume))
  return { rootKey, dataKey }
}

/** With a VM web-1 that runs, of a root and a data disk, in clear unless told otherwise. */
export async function makeLifeBench({
  encrypted = false,
  ...options
}: LifeOptions = {}): Promise<BackupBench> {
  const profile = { network: 'hl-net', bridge: 'hlnet', subnet: '10.90.0.0/24', encryption: encrypted }
  const config = { stop: { graceMs: 0 }, profiles: { starter: profileOf(profile) }, ...options.config }
  const made = await makeBackupBench({ ...options, config, provision: false })
  await made.host.prepare()
  const specification = made.bench.specification({ dataDiskBytes: 2 * 1024 ** 2, ...options.specification })
  await succeed(made.host, 'vm.provision', { specification })
  return made
}

export async function restarted({ bench }: BackupBench, hypervisor?: Hypervisor) {
  const host = bench.restarted(hypervisor)
  await host.prepare()
  return host
}

export async function recordOf({ bench }: BackupBench): Promise<VmRecord> {
  const record = await bench.hypervisor.findVm(vm, wait())
  assert.ok(record)
  return record
}

/** The claims, once the signature is checked against the CA of the fleet. */
export function certified({ fleet }: BackupBench, value: Record<string, unknown>): EraseCertificate {
  assert.equal(typeof value.certificate, 'string', JSON.stringify(value))
  const trust = { authorities: [fleet.authority.certificate], trustDomain }
  return verifyEraseCertificate(String(value.certificate), trust)
}

/** Texts of the keys as they lie in the state directory. */
export function wrappedKeys({ bench }: BackupBench): string[] {
  const directory = join(bench.directory, 'state', 'keys')
  return readdirSync(directory)
    .filter((name) => name.endsWith('.json'))
    .map((name) => JSON.parse(readFileSync(join(directory, name), 'utf8')).wrapped)
}

/** Whether any file below the host's directories holds the text. */
export function anywhere({ bench }: BackupBench, text: string): string[] {
  const found: string[] = []
  const look = (path: string) => {
    for (const name of readdirSync(path)) {
      const inner = join(path, name)
      if (statSync(inner).isDirectory()) look(inner)
      else if (readFileSync(inner).includes(text)) found.push(inner)
    }
  }
  look(bench.directory)
  return found
}
