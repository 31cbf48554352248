// Many VMs that cost almost nothing: defined as hostlet defines its own, each a real QEMU that is kept from running.

import { createHash, randomUUID } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { connect, domainCreateFlag, domainCreateWithFlags, domainLookupByName } from 'node-libvirt'
import type { VmDefinition } from '../../src/agent/host/hypervisor.ts'
import { LibvirtHypervisor } from '../../src/agent/host/libvirt-hypervisor.ts'
import { baseVolumeName, macAddressOf, rootVolumeName } from '../../src/agent/host/names.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { PrivateLibvirtd } from './private-libvirtd.ts'

const MIB = 1024 ** 2
const FIRST_UID = 1_900_000_000
const network = { name: 'hostlet-starter', bridge: 'hl-starter', subnet: '10.83.0.0/20' }
/** An empty disk is image enough for a guest that never runs. */
const disk = Buffer.alloc(MIB)
const image = {
  url: 'file:///empty.img',
  sha256: createHash('sha256').update(disk).digest('hex'),
  format: 'raw'
} as const

/** They last as long as the libvirtd does. */
export async function startCrowd(libvirtd: PrivateLibvirtd, count: number): Promise<void> {
  const runtimeDirectory = join(libvirtd.directory, 'crowd-run')
  mkdirSync(join(runtimeDirectory, 'console'), { recursive: true })
  const hypervisor = new LibvirtHypervisor({
    uri: libvirtd.uri,
    socket: libvirtd.socket,
    accelerator: 'tcg',
    pool: { name: 'hostlet', path: join(libvirtd.directory, 'pool') },
    trialUid: FIRST_UID,
    runtimeDirectory,
    clock: systemClock,
    log: silentLogger
  })
  const wait = { signal: AbortSignal.timeout(300_000) }
  try {
    await connected(hypervisor)
    await hypervisor.ensureNetwork(network, wait)
    const base = { name: baseVolumeName(image), format: image.format, sizeBytes: disk.length }
    await hypervisor.uploadBase(base, Readable.from([disk]), wait)
    await using connection = await connect(`${libvirtd.uri}?socket=${libvirtd.socket}`)
    for (let index = 0; index < count; index++) {
      const definition = definitionOf(index)
      const { specification: vm, placement } = definition
      const overlay = { name: placement.rootVolume, base: base.name, baseFormat: image.format }
      await hypervisor.createOverlay({ ...overlay, capacityBytes: vm.rootDiskBytes }, wait)
      await hypervisor.define(definition, wait)
      const { domain } = await connection.call(domainLookupByName, { name: vm.name })
      await connection.call(domainCreateWithFlags, { domain, flags: domainCreateFlag.paused })
    }
  } finally {
    await hypervisor.close()
  }
}

function definitionOf(index: number): VmDefinition {
  const uuid = randomUUID()
  const name = `crowd-${index}`
  return {
    specification: {
      ...{ name, uuid, image, profile: 'starter', cpus: 1 },
      memoryBytes: 64 * MIB,
      rootDiskBytes: 64 * MIB
    },
    placement: {
      uid: FIRST_UID + index,
      macAddress: macAddressOf(uuid),
      address: `10.83.1.${index + 1}`,
      network: network.name,
      rootVolume: rootVolumeName({ name, uuid }),
      dataVolume: null
    },
    generation: 1,
    wanted: 'running',
    seedPath: null
  }
}

async function connected(hypervisor: LibvirtHypervisor): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  using _listener = hypervisor.onStatus(({ state }) => state === 'connected' && resolve())
  hypervisor.open()
  await promise
}
