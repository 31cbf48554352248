// A hypervisor on this machine's libvirt with a pool, network and names of its own, and their removal.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { LibvirtHypervisor } from '../../src/agent/host/libvirt-hypervisor.ts'
import type { NetworkDefinition } from '../../src/agent/host/network-xml.ts'
import type { PoolDefinition } from '../../src/agent/host/volume-xml.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { DiskRole } from '../../src/protocol/backup.ts'

const run = promisify(execFile)
const virshMs = 60_000
/** Users of tests, away from those of a real agent on this machine. */
const testUidBase = 1_950_000_000

export interface LibvirtFixture {
  readonly hypervisor: LibvirtHypervisor
  readonly prefix: string
  readonly network: NetworkDefinition
  readonly pool: PoolDefinition
  /** Passed through by QEMU's users. */
  readonly directory: string
  readonly uid: number
  virsh(...args: string[]): Promise<string>
  /** Fills a range of a running machine's disk through the device, as its guest would. */
  fill(vm: string, role: DiskRole, range: { offset: number; length: number; byte: number }): Promise<void>
  dispose(): Promise<void>
}

/** False when tests can run here, otherwise the reason why not. */
export async function cannotRun(): Promise<string | false> {
  try {
    await virsh('version', '--daemon')
    return false
  } catch {
    return 'no libvirtd answers on qemu:///system: run "sh scripts/setup.sh"'
  }
}

export async function openLibvirtFixture(): Promise<LibvirtFixture> {
  const random = randomBytes(3)
  const prefix = `hl-t-${random.toString('hex')}`
  const directory = await mkdtemp(`/var/tmp/${prefix}-`)
  await chmod(directory, 0o711)
  const pool = { name: prefix, path: join(directory, 'pool') }
  const runtimeDirectory = join(directory, 'run')
  await mkdir(join(runtimeDirectory, 'console'), { recursive: true })
  const uid = testUidBase + random.readUIntBE(0, 3)
  const hypervisor = new LibvirtHypervisor({
    uri: 'qemu:///system',
    accelerator: 'tcg',
    pool,
    trialUid: uid,
    runtimeDirectory,
    scratch: { reserveBytes: 64 * 1024 ** 2 },
    clock: systemClock,
    log: silentLogger
  })
  await connected(hypervisor)
  return {
    hypervisor,
    prefix,
    pool,
    directory,
    uid,
    virsh,
    fill,
    network: {
      name: prefix,
      bridge: `hlt${random.toString('hex')}`,
      subnet: `10.${200 + ((random[0] ?? 0) % 50)}.${random[1]}.0/24`
    },
    dispose: async () => {
      await hypervisor.close()
      await removeAll(prefix)
      await removeTables(prefix)
      await rm(directory, { recursive: true, force: true })
    }
  }
}

/** A file that a machine may have as its CD. */
export async function emptySeed(directory: string, uuid: string): Promise<string> {
  const path = join(directory, `${uuid}.iso`)
  await writeFile(path, Buffer.alloc(64 * 1024))
  return path
}

export async function connected(hypervisor: LibvirtHypervisor): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  using _listener = hypervisor.onStatus(({ state }) => {
    if (state === 'connected') resolve()
  })
  hypervisor.open()
  await promise
}

async function virsh(...args: string[]): Promise<string> {
  const { stdout } = await run('virsh', ['-q', '-c', 'qemu:///system', ...args], { timeout: virshMs })
  return stdout
}

async function fill(
  vm: string,
  role: DiskRole,
  { offset, length, byte }: { offset: number; length: number; byte: number }
): Promise<void> {
  const device = `/machine/peripheral/virtio-disk${role === 'root' ? 0 : 1}/virtio-backend`
  const command = `qemu-io -d ${device} "write -P ${byte} ${offset} ${length}"`
  const answer = await virsh('qemu-monitor-command', '--hmp', vm, command)
  // What was written is told in QEMU's log only; a fault is told here.
  assert.equal(answer.trim(), '')
}

/** By name, so that a test that failed in the middle leaves nothing either. */
async function removeAll(prefix: string): Promise<void> {
  const names = async (...args: string[]) =>
    (await virsh(...args))
      .split('\n')
      .map((line) => line.trim())
      .filter((name) => name.startsWith(prefix))
  for (const name of await names('list', '--all', '--name')) {
    const xml = await virsh('dumpxml', '--inactive', name).catch(() => '')
    await virsh('destroy', name).catch(() => undefined)
    await virsh('undefine', name, '--nvram', '--checkpoints-metadata').catch(() => undefined)
    for (const [, key = ''] of xml.matchAll(/<secret type='passphrase' uuid='([0-9a-f-]+)'/g))
      await virsh('secret-undefine', key).catch(() => undefined)
  }
  for (const name of await names('net-list', '--all', '--name')) {
    await virsh('net-destroy', name).catch(() => undefined)
    await virsh('net-undefine', name).catch(() => undefined)
  }
  for (const name of await names('pool-list', '--all', '--name')) {
    await virsh('pool-destroy', name).catch(() => undefined)
    await virsh('pool-undefine', name).catch(() => undefined)
  }
}

/** Rules of hosts whose table is named as the fixture. */
export async function removeTables(name: string): Promise<void> {
  const { stdout } = await run('nft', ['list', 'tables']).catch(() => ({ stdout: '' }))
  for (const line of stdout.split('\n')) {
    const [, family, table] = line.split(' ')
    if (family && table === name) await run('nft', ['delete', 'table', family, name]).catch(() => undefined)
  }
}
