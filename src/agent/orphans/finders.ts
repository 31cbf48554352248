// What each kind of leftover is, and what proves that it is ours: one table.

import type { OrphanItem, OrphanKind } from '../../protocol/orphans.ts'
import { digestOfBase, diskOwner, diskSecretUsage, shortId } from '../host/names.ts'
import type { KnownVm } from '../inventory/known-vms.ts'
import type { OrphanFacts } from './facts.ts'
import { networks } from './network-finders.ts'
import { judged, workOn } from './proof.ts'
import { volumes } from './volume-finders.ts'

export interface OrphanRule {
  readonly kind: OrphanKind
  /** For the document: what it is, what proves it ours, how it is removed. */
  readonly what: string
  readonly proof: string
  readonly removal: string
  find(facts: OrphanFacts): OrphanItem[]
}

const uuidName = /^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.(iso|agent|log(\.\d+)?)$/

export const orphanRules: readonly OrphanRule[] = [
  {
    kind: 'volume',
    what: 'a disk of a VM that does not exist, or one that its VM does not have any more',
    proof:
      'its name is that of a disk; and the host remembers the VM, or holds a key for this very volume, or it stands on a base image of ours, or a sibling does; no domain and no other volume stands on it; it is older than an hour',
    removal: 'the volume is deleted; its key is another line',
    find: (facts) => volumes(facts, 'volume')
  },
  {
    kind: 'scratch',
    what: 'the scratch file of a backup that is over',
    proof: 'as for volumes; and no backup of its VM is under way',
    removal: 'the volume is deleted',
    find: (facts) => volumes(facts, 'scratch')
  },
  {
    kind: 'image',
    what: 'what an upload of an image left: half of it',
    proof:
      'its bytes, read when host.clean runs, do not have the digest of its name; nothing stands on it; no operation is under way; older than an hour',
    removal: 'the volume is deleted; images are fetched again when they are asked for',
    find: images
  },
  {
    kind: 'seed',
    what: 'the seed of a VM that does not exist, or is done with it',
    proof:
      'it lies in the private directory of seeds under a UUID; no domain has it in its drive; older than an hour',
    removal: 'the file is deleted',
    find: (facts) => files(facts, 'seed', facts.seeds)
  },
  {
    kind: 'console',
    what: "a serial log or the socket of a guest's agent of a VM that does not exist",
    proof:
      'it lies in the private directory of consoles under a UUID; no domain names it; older than an hour',
    removal: 'the file is deleted',
    find: (facts) => files(facts, 'console', facts.consoles)
  },
  ...networks,
  {
    kind: 'secret',
    what: 'a key that libvirt still has, of a disk or scratch file that does not exist',
    proof: "its usage is hostlet's and names its own UUID or a VM; no domain opens a disk with it",
    removal: 'libvirt forgets it; the key itself is another line',
    find: secrets
  },
  {
    kind: 'key',
    what: 'the wrapped key of a disk of a VM that does not exist',
    proof:
      'it lies in the private directory of keys; no domain names it; neither its volume nor any other of its VM is in the pool, nor any volume whose VM is not known; older than an hour',
    removal: 'the file is overwritten and deleted; what the scheduler has of it for recovery stays there',
    find: keys
  },
  {
    kind: 'qemu-log',
    what: "QEMU's log of a VM that does not exist",
    proof: 'the host remembers a VM of that name, and no domain has it; older than an hour',
    removal: 'the file is deleted',
    find: qemuLogs
  }
]

/** All that belongs to no VM, each kind after the other. */
export function orphansIn(facts: OrphanFacts): OrphanItem[] {
  return orphanRules.flatMap(({ find }) => find(facts))
}

function images(facts: OrphanFacts): OrphanItem[] {
  return facts.volumes.flatMap(({ name, changedAt, path }) => {
    if (!facts.uncheckedImages.has(name)) return []
    const isBroken = facts.uncheckedImages.get(name)
    // An image as any other, of which the host has lost its note.
    if (isBroken === false) return []
    const proof = isBroken ? 'its bytes are not those of its name' : undefined
    const doubt =
      facts.underWay.length > 0 ? 'operations are under way, and one may be fetching it' : undefined
    return [judged(facts, { kind: 'image', name, changedAt, paths: [path, name], proof, doubt })]
  })
}

function files(facts: OrphanFacts, kind: 'seed' | 'console', found: OrphanFacts['seeds']): OrphanItem[] {
  return found.flatMap(({ name, changedAt }) => {
    const uuid = uuidName.exec(name)?.[1]
    if (uuid === undefined) return []
    const isThere = facts.owners.has(uuid)
    // Of a VM that is there its socket and log are in use; a seed is, as long as it is in the drive.
    const inDrive = [...facts.usedFiles].some((file) => file.endsWith(`/${name}`))
    const isOurs = facts.vms.some(({ specification }) => specification.uuid === uuid)
    if (inDrive || (isThere && (kind === 'console' || !isOurs))) return []
    const doubt = keptFor(facts, { uuid }) ?? workOn(facts, { uuid })
    return [judged(facts, { kind, name, changedAt, paths: [], proof: 'in our private directory', doubt })]
  })
}

function secrets(facts: OrphanFacts): OrphanItem[] {
  const used = new Set(facts.uses.flatMap((use) => use.secrets))
  return facts.secrets.flatMap(({ id, usage }) => {
    if (used.has(id)) return []
    const scratchOf = /^hostlet-scratch\/([0-9a-f-]{36})\//.exec(usage)?.[1]
    const isDisks = usage === diskSecretUsage(id)
    const uuid = scratchOf ?? facts.keys.find((key) => key.id === id)?.vm.uuid
    const doubt =
      uuid === undefined
        ? facts.underWay.length > 0
          ? 'operations are under way, and one may have defined it'
          : undefined
        : workOn(facts, { uuid })
    const proof = scratchOf !== undefined || isDisks ? `its usage is ${usage}` : undefined
    return [judged(facts, { kind: 'secret', name: id, changedAt: 0, paths: [], proof, doubt })]
  })
}

/** However sure: what a key could open must not be there any more, under whatever name. */
function keys(facts: OrphanFacts): OrphanItem[] {
  const used = new Set(facts.uses.flatMap((use) => use.secrets))
  const stray = facts.volumes.find(({ name }) => {
    const owner = diskOwner(name)
    return digestOfBase(name) === undefined && (owner === undefined || !facts.owners.has(owner))
  })
  return facts.keys.flatMap(({ id, vm, volume, createdAt }) => {
    if (used.has(id)) return []
    const own = facts.volumes.find(({ name }) => name === volume || diskOwner(name) === shortId(vm))
    const doubt =
      own !== undefined
        ? `${own.name} is there, and it may open it`
        : stray !== undefined
          ? `${stray.name} is there, and nobody knows what opens it`
          : facts.owners.has(vm.uuid)
            ? `VM ${vm.name} is there`
            : (keptFor(facts, vm) ?? workOn(facts, vm))
    const proof = `of volume ${volume}, which is gone`
    return [judged(facts, { kind: 'key', name: id, changedAt: createdAt, paths: [], proof, doubt })]
  })
}

function qemuLogs(facts: OrphanFacts): OrphanItem[] {
  return facts.qemuLogs.flatMap(({ name, changedAt }) => {
    const vm = /^([a-z][a-z0-9-]*)\.log(\.\d+(\.gz)?)?$/.exec(name)?.[1]
    const known = facts.knownVms.find((each) => each.name === vm)
    if (vm === undefined || known === undefined || facts.owners.has(`name ${vm}`)) return []
    const doubt = keptFor(facts, known) ?? workOn(facts, known)
    const proof = `VM ${vm} (${known.uuid}) was on this host`
    return [judged(facts, { kind: 'qemu-log', name, changedAt, paths: [], proof, doubt })]
  })
}

/** Of a VM that is not here. Of one that is, what it does not use is known. */
function keptFor({ keep, owners }: OrphanFacts, { uuid }: Pick<KnownVm, 'uuid'>): string | undefined {
  const found = owners.has(uuid) ? undefined : keep.find((vm) => vm.uuid === uuid)
  return found && `the scheduler knows VM ${found.name} to be here`
}
