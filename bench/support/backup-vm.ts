// A running VM whose data disk is mixed data, on a libvirtd of the bench's own, and the agent's hypervisor port to it.

import { execFile } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { promisify } from 'node:util'
import type { VmDefinition } from '../../src/agent/host/hypervisor.ts'
import { LibvirtHypervisor } from '../../src/agent/host/libvirt-hypervisor.ts'
import { baseVolumeName, dataVolumeName, macAddressOf, rootVolumeName } from '../../src/agent/host/names.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { makeRoom } from './backup-engine.ts'
import { type MixedDisk, mebibyte } from './mixed-disk.ts'
import { type PrivateLibvirtd, startLibvirtd } from './private-libvirtd.ts'

const run = promisify(execFile)
/** Away from the users of a real agent on this machine. */
const USER = 1_970_000_000
const wait = { signal: new AbortController().signal }

export interface BackupVm extends AsyncDisposable {
  readonly name: string
  readonly hypervisor: LibvirtHypervisor
  readonly libvirtd: PrivateLibvirtd
  /** Where the machine's user may make sockets. */
  readonly sharedDirectory: string
  /** Name of the data disk in the machine. */
  readonly dataTarget: string
}

/** Its CPU halts at once, so that it runs and costs nothing; its disks lie in memory. */
export async function startBackupVm(disk: MixedDisk): Promise<BackupVm> {
  await using started = new AsyncDisposableStack()
  const room = started.use(makeRoom('memory'))
  chmodSync(room.path, 0o711)
  const libvirtd = started.use(await startLibvirtd())
  const hypervisor = started.adopt(await openHypervisor(libvirtd, room.path), (open) => open.close())
  const definition = definitionOf(disk.sizeBytes)
  const { specification, placement } = definition
  await hypervisor.ensureNetwork({ name: 'bench', bridge: 'bench0', subnet: '10.249.7.0/24' }, wait)
  await makeRootDisk(hypervisor, definition)
  await hypervisor.createVolume({ name: placement.dataVolume ?? '', capacityBytes: disk.sizeBytes }, wait)
  const data = join(room.path, 'pool', placement.dataVolume ?? '')
  await run('qemu-img', ['convert', '-n', '-O', 'qcow2', disk.files.qcow2, data])
  const seedPath = join(room.path, 'seed.iso')
  writeFileSync(seedPath, Buffer.alloc(65_536))
  await hypervisor.define({ ...definition, seedPath }, wait)
  await hypervisor.start(specification.name, wait)
  const sharedDirectory = join(room.path, 'shared')
  mkdirSync(sharedDirectory)
  chmodSync(sharedDirectory, 0o1777)
  const resources = started.move()
  return {
    ...{ name: specification.name, hypervisor, libvirtd, sharedDirectory, dataTarget: 'vdb' },
    [Symbol.asyncDispose]: () => resources.disposeAsync()
  }
}

async function openHypervisor(libvirtd: PrivateLibvirtd, directory: string): Promise<LibvirtHypervisor> {
  const runtimeDirectory = join(directory, 'run')
  mkdirSync(join(runtimeDirectory, 'console'), { recursive: true })
  const hypervisor = new LibvirtHypervisor({
    ...{ uri: libvirtd.uri, socket: libvirtd.socket, accelerator: 'tcg', trialUid: USER },
    pool: { name: 'bench', path: join(directory, 'pool') },
    runtimeDirectory,
    scratch: { reserveBytes: 64 * mebibyte },
    // The same directory by the name that it has outside of the daemon's namespace.
    qemuDirectory: join(libvirtd.directory, 'lib/qemu'),
    clock: systemClock,
    log: silentLogger
  })
  const { promise, resolve } = Promise.withResolvers<void>()
  using _listener = hypervisor.onStatus(({ state }) => {
    if (state === 'connected') resolve()
  })
  hypervisor.open()
  await promise
  return hypervisor
}

function haltingDisk(): Buffer {
  const disk = Buffer.alloc(mebibyte)
  disk.write('faf4ebfd', 'hex')
  disk.writeUInt16LE(0xaa55, 510)
  return disk
}

const rootContent = haltingDisk()
const image = {
  url: 'https://images.test/halting.img',
  sha256: createHash('sha256').update(rootContent).digest('hex'),
  format: 'raw'
} as const

async function makeRootDisk(
  hypervisor: LibvirtHypervisor,
  { specification, placement }: VmDefinition
): Promise<void> {
  const base = baseVolumeName(image)
  const volume = { name: base, format: 'raw', sizeBytes: rootContent.length } as const
  await hypervisor.uploadBase(volume, Readable.from([rootContent]), wait)
  const { rootDiskBytes: capacityBytes } = specification
  await hypervisor.createOverlay({ name: placement.rootVolume, base, baseFormat: 'raw', capacityBytes }, wait)
}

function definitionOf(dataDiskBytes: number): VmDefinition {
  const vm = { name: `bench-${randomUUID().slice(0, 8)}`, uuid: randomUUID() }
  return {
    specification: {
      ...{ ...vm, profile: 'starter', image, cpus: 1, memoryBytes: 64 * mebibyte },
      ...{ rootDiskBytes: 8 * mebibyte, dataDiskBytes }
    },
    placement: {
      uid: USER + 1,
      macAddress: macAddressOf(vm.uuid),
      ...{ address: '10.249.7.99', network: 'bench' },
      ...{ rootVolume: rootVolumeName(vm), dataVolume: dataVolumeName(vm) }
    },
    ...{ generation: 1, wanted: 'running', seedPath: null }
  }
}
