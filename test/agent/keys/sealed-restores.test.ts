// Restores of VMs whose profile has encryption: their disks come back encrypted, under keys of their own, and old keys go with old disks.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { profileOf } from '../../../src/agent/profiles.ts'
import { HostletError } from '../../../src/errors.ts'
import {
  type BackupBench,
  backUp,
  failure,
  makeBackupBench,
  source,
  target,
  vm,
  wait
} from '../backups/bench.ts'
import { succeed } from '../verbs/bench.ts'

const run = promisify(execFile)
const other = { vm: 'web-2', uuid: '0b54e6f2-6b53-4a3e-9d1c-000000000002' }
const inPlace = { target, source, vm, uuid: source, snapshot: 'latest', replace: true }

describe('a restore in a profile with encryption', { timeout: 170_000 }, () => {
  it('makes a VM with encrypted disks, also of a backup of disks in clear', async () => {
    await using host = await sealed('clear')
    await backUp(host)
    const args = { target, source, snapshot: 'latest', profile: 'starter', ...other }
    await succeed(host.host, 'vm.restore', args)
    const { rootKey, dataKey } = await placementOf(host, other.vm)
    assert.ok(rootKey && dataKey)
    assert.ok((await clear(host, other.vm, 'root')).equals(host.content('root')))
    assert.ok((await clear(host, other.vm, 'data')).equals(host.content('data')))
    assert.equal((await host.bench.hypervisor.findVm(other.vm, wait()))?.state, 'running')
    await succeed(host.host, 'vm.teardown', { vm: other.vm }, { subject: subjectOf(other.uuid) })
    assert.deepEqual(keyFiles(host), [])
  })

  it('puts disks in the place of others, whose keys are destroyed at the end', async () => {
    await using host = await sealed('starter')
    await backUp(host)
    const content = host.content('root')
    const before = await placementOf(host, vm)
    await succeed(host.host, 'vm.restore', inPlace)
    const after = await placementOf(host, vm)
    assert.ok(after.rootKey && after.rootKey !== before.rootKey)
    assert.deepEqual(keyFiles(host), [`${after.rootKey}.json`])
    assert.equal(host.bench.hypervisor.secrets.has(before.rootKey ?? ''), false)
    assert.ok((await clear(host, vm, 'root')).equals(content))
  })

  it('leaves old disks and keys where the VM does not start with the new ones, and nothing of those', async () => {
    await using host = await sealed('starter')
    await backUp(host)
    const [before, keys] = [await placementOf(host, vm), keyFiles(host)]
    host.bench.hypervisor.failNext('start', new HostletError('E_CAPACITY', 'no memory'))
    assert.equal((await failure(host.host, 'vm.restore', inPlace)).code, 'E_CAPACITY')
    assert.deepEqual(await placementOf(host, vm), before)
    assert.deepEqual(keyFiles(host), keys)
    assert.equal((await host.bench.hypervisor.findVm(vm, wait()))?.state, 'running')
  })

  it('tries whether a backup boots on encrypted disks, and leaves no key', async () => {
    await using host = await sealed('starter')
    const { record } = await backUp(host)
    const keys = keyFiles(host)
    const args = { target, source, snapshot: record.snapshot, boot: true }
    await succeed(host.host, 'backup.verify', args)
    assert.ok(host.bench.hypervisor.calls.filter((call) => call.startsWith('defineSecret')).length >= 2)
    assert.deepEqual(keyFiles(host), keys)
  })
})

/** With a VM of a profile that runs; of the other one there are no VMs yet. */
async function sealed(profile: 'starter' | 'clear'): Promise<BackupBench> {
  const network = { network: 'hl-net', bridge: 'hlnet', subnet: '10.90.0.0/24' }
  const inClear = { network: 'hl-clear', bridge: 'hlclear', subnet: '10.91.0.0/24', encryption: false }
  const profiles = { starter: profileOf(network), clear: profileOf(inClear) }
  const host = await makeBackupBench({ provision: false, config: { profiles } })
  await host.host.prepare()
  const sizes = { rootDiskBytes: 1024 ** 2, ...(profile === 'clear' && { dataDiskBytes: 2 * 1024 ** 2 }) }
  await succeed(host.host, 'vm.provision', { specification: host.bench.specification({ profile, ...sizes }) })
  host.write([0, 1, 7], 0x11)
  if (profile === 'clear') host.write([3], 0x22, 'data')
  return host
}

async function placementOf({ bench }: BackupBench, name: string) {
  const record = await bench.hypervisor.findVm(name, wait())
  assert.ok(record)
  return record.placement
}

/** What is on a restored disk, by its key. */
async function clear(host: BackupBench, name: string, role: 'root' | 'data'): Promise<Buffer> {
  const { bench } = host
  const { rootVolume, rootKey, dataVolume, dataKey } = await placementOf(host, name)
  const [volume, id] = role === 'root' ? [rootVolume, rootKey] : [dataVolume, dataKey]
  const found = await bench.hypervisor.findVolume(volume ?? '', wait())
  const [key, raw] = [join(bench.directory, 'opened.key'), join(bench.directory, 'opened.raw')]
  writeFileSync(key, await bench.host.keys.disks.unwrap(id ?? ''))
  const image = `driver=qcow2,encrypt.key-secret=k,file.filename=${found?.path}`
  await run('qemu-img', [
    'convert',
    '--object',
    `secret,id=k,file=${key}`,
    '--image-opts',
    image,
    '-O',
    'raw',
    raw
  ])
  return readFileSync(raw)
}

function keyFiles({ host }: BackupBench): string[] {
  return readdirSync(join(host.config.stateDirectory, 'keys'))
}

function subjectOf(uuid: string) {
  return { vm: other.vm, uuid, generation: 1_000_000 }
}
