// vm.provision: a VM from nothing to ready, or nothing at all.

import { HostletError } from '../../errors.ts'
import { Type } from '../../lib/schema.ts'
import { Ipv4, strict } from '../../protocol/names.ts'
import { VmSpecification, VmSummary } from '../../protocol/vm.ts'
import type { Host } from '../host/host.ts'
import type { VmRecord } from '../host/hypervisor.ts'
import { isClaimOf, taken } from '../host/placement.ts'
import { together } from '../operations/together.ts'
import { defineVerb, type Operation, type Step } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'
import { requireVm, subjectOf } from './subject.ts'

/** For the image and the disks; the time to become ready comes on top. */
const makeMs = 1_800_000

export const vmProvision = defineVerb<Host>()({
  name: 'vm.provision',
  summary: 'Makes a VM from an image and waits until it is ready. When that fails, nothing of it is left.',
  lock: 'vm',
  backups: 'wait',
  changes: true,
  deadlineMs: makeMs,
  afterCrash: 'resume',
  cancellable: true,
  params: Type.Object({ specification: VmSpecification }, strict),
  result: Type.Object({ vm: VmSummary, address: Ipv4 }, strict),
  deadline: ({ specification }) => makeMs + (specification.ready?.timeoutMs ?? 0),

  async check({ specification }, host, operation) {
    const { name, uuid } = specification
    const subject = subjectOf(operation, name)
    if (subject.uuid !== uuid)
      throw new HostletError('E_BAD_REQUEST', `the command is about ${subject.uuid}, its VM is ${uuid}`)
    host.placements.network(specification.profile)
    const existing = await host.hypervisor.findVm(name, operation)
    if (existing !== undefined) throw taken(existing, specification)
    await host.vms.refuseForeign(name, operation)
    host.vms.requireMemory(specification)
  },

  steps: ({ specification }, host) => [
    claim(specification, host),
    {
      name: 'fetch the image',
      apply: async (operation) => {
        const { virtualSizeBytes } = await host.images.ensure(specification.image, operation)
        requireRoomFor(virtualSizeBytes, specification)
      }
    },
    together([disks(specification, host), reservation(specification, host)]),
    seed(specification, host),
    {
      name: 'start',
      apply: async (operation) => {
        const record = await own(specification, host, operation)
        await host.vms.start(record, operation)
        await host.hypervisor.annotate(specification.name, { wanted: 'running' }, operation)
      },
      undo: async (operation) => {
        if (await isOwn(specification, host, operation))
          await host.hypervisor.cutPower(specification.name, operation)
      }
    },
    {
      name: 'wait until it is ready',
      apply: async (operation) => {
        await host.vms.awaitReady(await readyRecord(specification, host, operation), operation)
      }
    },
    {
      name: 'take the seed out',
      apply: async (operation) => {
        if (specification.seed === undefined) return
        await host.hypervisor.ejectSeed(specification.name, operation)
        await host.seeds.remove(specification.uuid)
      }
    }
  ],

  async outcome({ specification }, host, operation) {
    const record = await requireVm(specification.name, host, operation)
    return { vm: host.vms.summary(record), address: record.placement.address }
  }
})

/**
 * The first step and the last undo: the definition claims name, user and address, and as long as it stands everything
 * else of a half-made VM can be found.
 */
function claim(specification: VmSpecification, host: Host): Step {
  return {
    name: 'claim name, user and address',
    apply: async (operation) => {
      const { generation } = subjectOf(operation, specification.name)
      const seedPath = specification.seed === undefined ? null : host.seeds.path(specification.uuid)
      await host.placements.claim({ specification, generation, seedPath }, operation)
    },
    undo: async (operation) => {
      if (await isOwn(specification, host, operation))
        await host.hypervisor.undefine(specification.name, operation)
    }
  }
}

function disks(specification: VmSpecification, host: Host): Step {
  return {
    name: 'make the disks',
    apply: async (operation) => {
      const { placement } = await own(specification, host, operation)
      await host.storage.createRootDisk(specification, placement, operation)
      await host.storage.createDataDisk(specification, placement, operation)
    },
    undo: async (operation) => {
      if (await isOwn(specification, host, operation))
        await host.storage.removeDisks(specification, operation)
    }
  }
}

function reservation(specification: VmSpecification, host: Host): Step {
  return {
    name: 'reserve the address',
    apply: async (operation) => {
      const { placement } = await own(specification, host, operation)
      const { network, macAddress, address } = placement
      await host.hypervisor.ensureNetwork(host.placements.network(specification.profile), operation)
      const reservation = { macAddress, address, vm: specification.name }
      await host.hypervisor.addReservation(network, reservation, operation)
    },
    undo: async (operation) => {
      const record = await isOwn(specification, host, operation)
      if (record === undefined) return
      await host.hypervisor.removeReservation(
        record.placement.network,
        record.placement.macAddress,
        operation
      )
    }
  }
}

function seed(specification: VmSpecification, host: Host): Step {
  return {
    name: 'write the seed',
    apply: async (operation) => {
      if (specification.seed === undefined) return
      const { placement } = await own(specification, host, operation)
      await host.seeds.write(specification, placement, operation)
    },
    undo: async (operation) => {
      if (await isOwn(specification, host, operation)) await host.seeds.remove(specification.uuid)
    }
  }
}

/** The VM of this very command. Another one of the name, even of the same UUID, is none of its business. */
async function isOwn(
  specification: VmSpecification,
  host: Host,
  operation: Operation
): Promise<VmRecord | undefined> {
  const { generation } = subjectOf(operation, specification.name)
  const record = await host.hypervisor.findVm(specification.name, operation)
  return record && isClaimOf(record, { specification, generation }) ? record : undefined
}

async function own(specification: VmSpecification, host: Host, operation: Operation): Promise<VmRecord> {
  const record = await isOwn(specification, host, operation)
  if (record !== undefined) return record
  throw new HostletError(
    'E_CONFLICT',
    `VM ${specification.name} was removed or replaced while it was being made. Look at the host, then ask anew.`,
    { details: { vm: specification.name } }
  )
}

async function readyRecord(specification: VmSpecification, host: Host, operation: Operation) {
  const { placement } = await own(specification, host, operation)
  return { specification, placement }
}

function requireRoomFor(virtualSizeBytes: number, { name, rootDiskBytes }: VmSpecification): void {
  if (virtualSizeBytes <= rootDiskBytes) return
  throw new HostletError(
    'E_BAD_REQUEST',
    `the root disk of VM ${name} has ${rootDiskBytes} bytes, its image needs ${virtualSizeBytes}. Ask for a larger root disk.`,
    { details: { vm: name, rootDiskBytes, imageBytes: virtualSizeBytes } }
  )
}

export const document: VerbDocument = {
  errors: {
    E_BAD_REQUEST:
      'an argument is wrong, the profile is not configured here, the image is not of its format, has a backing file or another data file, is encrypted, or is larger than the root disk',
    E_CONFLICT: "the name exists on this host, as another VM, this one, or a domain that is not hostlet's",
    E_NOT_FOUND: 'the image does not exist at its address',
    E_AUTH: 'the image file is outside of the directories that the host allows, or its server wants a login',
    E_UNAVAILABLE:
      'the image cannot be fetched now, libvirt is away, or the VM was not ready in time and was removed again',
    E_CAPACITY: 'no room for the image or the disks, no memory, no free address, no free user',
    E_CORRUPT: 'the image has another SHA-256 than the command says',
    E_TIMEOUT: 'the whole of it took longer than its deadline; it was undone'
  },
  crash:
    'Runs on from the last step that was done; a step that was under way is done again. Killed in the middle and started again, the agent ends with the VM running, or, where a step fails, with nothing left.',
  remarks: [
    'The image stays in the pool for the next VM, also when the provision fails later.',
    'Disks of a profile with encryption have a key each, which libvirt is told before every start and which teardown destroys. Prepared disks (preparedDisks of the configuration) spare the seconds that making one takes.',
    'User data is on the seed only: it is not kept in libvirt, and the seed is ejected and deleted once the VM is ready.',
    "libvirt's autostart is never set: after a host boot the agent starts what should run."
  ],
  example: {
    specification: {
      name: 'web-1',
      uuid: '0196f2a4-7c1e-7b3a-9d55-1f2e3d4c5b6a',
      profile: 'starter',
      image: {
        url: 'https://images.example.org/debian-12.qcow2',
        sha256: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
        format: 'qcow2'
      },
      cpus: 2,
      memoryBytes: 2_147_483_648,
      rootDiskBytes: 21_474_836_480,
      seed: { hostname: 'web-1', sshAuthorizedKeys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample ops'] },
      ready: { tcpPort: 22, timeoutMs: 300_000 }
    }
  }
}
