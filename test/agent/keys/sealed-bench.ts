// A host whose VMs have encrypted disks, on the hypervisor in memory, and looks at their files.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { profileOf } from '../../../src/agent/profiles.ts'
import type { VmSpecification } from '../../../src/protocol/vm.ts'
import { type Bench, type BenchOptions, makeBench, succeed } from '../verbs/bench.ts'

const run = promisify(execFile)
export const vm = { name: 'web-1', uuid: '0b54e6f2-6b53-4a3e-9d1c-0123456789ab' }
export const withData = { dataDiskBytes: 2 * 1024 ** 2 }
export const wait = () => ({ signal: AbortSignal.timeout(120_000) })

export async function sealedBench(config: BenchOptions['config'] = {}): Promise<Bench> {
  const network = { network: 'hl-net', bridge: 'hlnet', subnet: '10.90.0.0/24' }
  const bench = await makeBench({ config: { profiles: { starter: profileOf(network) }, ...config } })
  await bench.host.prepare()
  return bench
}

export async function provision(bench: Bench, changes: Partial<VmSpecification> = {}): Promise<void> {
  await succeed(bench.host, 'vm.provision', { specification: bench.specification({ ...vm, ...changes }) })
}

export async function placementOf({ hypervisor }: Bench) {
  const record = await hypervisor.findVm(vm.name, wait())
  assert.ok(record)
  return record.placement
}

export function keyFiles({ host }: Bench): string[] {
  return readdirSync(join(host.config.stateDirectory, 'keys'))
}

/** Asked of QEMU, of the bytes that were stored. */
export async function opens(bench: Bench, role: 'root' | 'data', passphrase: string): Promise<boolean> {
  const { rootVolume, dataVolume } = await placementOf(bench)
  const content = await bench.hypervisor.readVolume((role === 'root' ? rootVolume : dataVolume) ?? '', wait())
  const [path, key] = [join(bench.directory, 'opened.qcow2'), join(bench.directory, 'opened.key')]
  writeFileSync(path, await buffer(content))
  writeFileSync(key, passphrase)
  const image = {
    driver: 'qcow2',
    backing: null,
    file: { driver: 'file', filename: path },
    encrypt: { format: 'luks', 'key-secret': 'k' }
  }
  return await run('qemu-io', [
    '-r',
    '--object',
    `secret,id=k,file=${key}`,
    `json:${JSON.stringify(image)}`,
    '-c',
    'quit'
  ]).then(
    () => true,
    () => false
  )
}

export async function until(holds: () => boolean): Promise<void> {
  const { signal } = wait()
  while (!holds()) {
    signal.throwIfAborted()
    await new Promise((resolve) => setImmediate(resolve))
  }
}
