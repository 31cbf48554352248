// vm.provision: a VM from nothing to ready, or nothing at all.

import { HostletError } from '../../errors.ts'
import { Type } from '../../lib/schema.ts'
import { Ipv4, strict } from '../../protocol/names.ts'
import { VmSpecification, VmSummary } from '../../protocol/vm.ts'
import { refuseSameNames } from '../guest/health-probes.ts'
import { seedContentOf } from '../guest/seed-content.ts'
import type { Host } from '../host/host.ts'
import type { VmRecord } from '../host/hypervisor.ts'
import { isMade, isOff, isPastItsDisks, Making, mayUndo } from '../host/making.ts'
import { releaseAddress, unclaim } from '../host/own-network.ts'
import { isClaimOf, taken } from '../host/placement.ts'
import { requireRoomFor } from '../lifecycle/reimage.ts'
import { together } from '../operations/together.ts'
import { defineVerb, type Operation, type Step } from '../operations/verb.ts'
import { planProvision } from '../plans/making.ts'
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
    host.placements.profile(specification.profile)
    refuseSameNames(specification)
    // Nothing is recorded of what cannot be opened, least of all a secret that came in plain text.
    await host.secrets.userDataOf(specification)
    const existing = await host.hypervisor.findVm(name, operation)
    if (existing !== undefined) throw taken(existing, specification)
    await host.vms.refuseForeign({ name, uuid }, operation)
    host.resources.refuseLooser(specification)
    host.vms.requireMemory(specification)
    await host.resources.check(specification, operation)
    await host.firewall.requireAllowed(specification, await host.hypervisor.listVms(operation))
  },

  steps: ({ specification }, host) => stepsOf(specification, host, new Making(host.hypervisor)),

  plan: planProvision,

  async outcome({ specification }, host, operation) {
    const record = await requireVm(specification.name, host, operation)
    return { vm: host.vms.summary(record), address: record.placement.address }
  }
})

function stepsOf(specification: VmSpecification, host: Host, making: Making): readonly Step[] {
  const { name: vm } = specification
  return [
    claim(specification, host),
    {
      name: 'fetch the image',
      apply: async (operation) => {
        if (isPastItsDisks(await own(specification, host, operation))) return
        const { virtualSizeBytes } = await host.images.ensure(specification.image, operation)
        requireRoomFor(virtualSizeBytes, specification)
      }
    },
    together([disks(specification, host), reservation(specification, host)]),
    seed(specification, host),
    {
      name: 'start',
      apply: (operation) => startIt(specification, host, operation),
      undo: async (operation) => {
        const record = await isOwn(specification, host, operation)
        if (record !== undefined && !isMade(record)) await host.hypervisor.cutPower(vm, operation)
      }
    },
    {
      name: 'wait until it is ready',
      apply: async (operation) => {
        // A boot of the host may have switched it off since.
        await startIt(specification, host, operation)
        const { wanted, placement, state } = await own(specification, host, operation)
        if (!isMade({ wanted, state })) await host.vms.awaitReady({ specification, placement }, operation)
      }
    },
    {
      name: 'take the seed out',
      apply: async (operation) => {
        if (isMade(await own(specification, host, operation))) return
        if (specification.seed !== undefined) {
          await host.hypervisor.ejectSeed(vm, operation)
          await host.seeds.remove(specification.uuid)
        }
        await making.announce(vm, operation)
      },
      undo: async (operation) => {
        const record = await isOwn(specification, host, operation)
        if (record !== undefined) await making.takeBackNew(record, operation)
      },
      // An earlier run may have made the VM: then nothing of it is undone, and it must not end as failed.
      patient: true
    }
  ]
}

/** No effect on one that runs, and on one that was ready once and is off: that is its guest's business. */
async function startIt(specification: VmSpecification, host: Host, operation: Operation): Promise<void> {
  const record = await own(specification, host, operation)
  if (isMade(record) || record.state === 'running') return
  // A boot of the host took what lay in memory.
  if (isOff(record) && specification.seed !== undefined && !(await host.seeds.has(specification.uuid)))
    await writeSeed(specification, host, operation)
  await host.vms.start(record, operation)
}

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
      const record = await undoable(specification, host, operation)
      if (record !== undefined) await unclaim(record, host, operation)
    }
  }
}

function disks(specification: VmSpecification, host: Host): Step {
  return {
    name: 'make the disks',
    apply: async (operation) => {
      const record = await own(specification, host, operation)
      if (isPastItsDisks(record)) return
      const { placement } = record
      await host.storage.createRootDisk(specification, placement, operation)
      await host.storage.createDataDisk(specification, placement, operation)
    },
    undo: async (operation) => {
      if (await undoable(specification, host, operation))
        await host.storage.removeDisks(specification, operation)
    }
  }
}

function reservation(specification: VmSpecification, host: Host): Step {
  return {
    name: 'reserve the address',
    apply: async (operation) => {
      const record = await own(specification, host, operation)
      const { network, macAddress, address } = record.placement
      await host.hypervisor.ensureNetwork(host.placements.networkOf(record), operation)
      const reservation = { macAddress, address, vm: specification.name }
      await host.hypervisor.addReservation(network, reservation, operation)
    },
    undo: async (operation) => {
      const record = await undoable(specification, host, operation)
      if (record === undefined) return
      await releaseAddress(record, host, operation)
    }
  }
}

function seed(specification: VmSpecification, host: Host): Step {
  return {
    name: 'write the seed',
    apply: async (operation) => {
      if (isPastItsDisks(await own(specification, host, operation))) return
      if (specification.seed !== undefined) await writeSeed(specification, host, operation)
    },
    undo: async (operation) => {
      if (await undoable(specification, host, operation)) await host.seeds.remove(specification.uuid)
    }
  }
}

async function writeSeed(specification: VmSpecification, host: Host, operation: Operation): Promise<void> {
  const { placement } = await own(specification, host, operation)
  await host.seeds.write(specification, placement, await seedContentOf(specification, host), operation)
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

/** The same, as long as it may be undone. */
async function undoable(
  specification: VmSpecification,
  host: Host,
  operation: Operation
): Promise<VmRecord | undefined> {
  const record = await isOwn(specification, host, operation)
  return record !== undefined && mayUndo(record) ? record : undefined
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

export const document: VerbDocument = {
  errors: {
    E_BAD_REQUEST:
      'an argument is wrong, the profile is not configured here or allows less than is asked for, a port of the host is none that it maps, the user data is not encrypted or is sealed for another VM or image, the image is not of its format, has a backing file or another data file, is encrypted, or is larger than the root disk',
    E_CONFLICT:
      "the name exists on this host, as another VM, this one, or a domain that is not hostlet's; the UUID is that of such a domain; or a port of the host is another VM's or a program's",
    E_NOT_FOUND: 'the image does not exist at its address',
    E_AUTH:
      'the image file is outside of the directories that the host allows, or its server wants a login; or the user data was changed on its way',
    E_STALE:
      'the user data is sealed for a key that the host does not have, or the command is of an older generation',
    E_UNAVAILABLE:
      'the image cannot be fetched now, libvirt is away, the network rules cannot be applied, or the VM was not ready in time and was removed again',
    E_CAPACITY:
      'no room for the image or the disks, no memory, no huge pages, no processors or whole cores left for it, no free address, no free user',
    E_CORRUPT: 'the image has another SHA-256 than the command says',
    E_TIMEOUT: 'the whole of it took longer than its deadline; it was undone'
  },
  crash:
    'Runs on from the last step that was done; a step that was under way is done again. Killed in the middle and started again, the agent ends with the VM running, or, where a step fails, with nothing left. Killed while it undoes a VM that was ready already, it leaves that VM as it is, and says so.',
  remarks: [
    'The image stays in the pool for the next VM, also when the provision fails later.',
    'Disks of a profile with encryption have a key each, which libvirt is told before every start and which teardown destroys. Prepared disks (preparedDisks of the configuration) spare the seconds that making one takes.',
    "User data is a compact JWE for the key that the host's facts tell (`secretsKey`), sealed for this VM and image: see `docs/protocol.md`. The journal keeps no more than that; it is opened when the seed is written.",
    'User data is on the seed only, which lies in memory: it is not kept in libvirt, and the seed is ejected and deleted once the VM is ready.',
    'Without user data, and with it where `hardened` is true, the seed has vendor data besides: SSH by key only, no root login, a firewall that lets in SSH, the mapped ports and those of `ready` and `health`, and, where the profile lets the guest fetch packages, fail2ban and unattended upgrades. It is for images with cloud-init and systemd; other packages than those of Debian and its kin are not installed.',
    'The VM starts once its network rules are in force, and not before. `network` may ask for less than the profile allows, never for more; with `egress` of mode `list`, private and link-local addresses stay closed, DNS goes to the resolvers of the host only, and mail (TCP 25) has to be named.',
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
