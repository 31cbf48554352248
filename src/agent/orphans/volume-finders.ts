// Volumes of the pool that no VM has.

import { posix } from 'node:path'
import type { OrphanItem } from '../../protocol/orphans.ts'
import type { VolumeSurvey } from '../host/inventory-port.ts'
import { digestOfBase, diskOwner, shortId } from '../host/names.ts'
import type { KnownVm } from '../inventory/known-vms.ts'
import type { OrphanFacts } from './facts.ts'
import { judged, workOn } from './proof.ts'

export function volumes(facts: OrphanFacts, kind: 'volume' | 'scratch'): OrphanItem[] {
  return facts.volumes.flatMap((volume) => {
    const owner = diskOwner(volume.name)
    if (owner === undefined || (kind === 'scratch') !== volume.name.endsWith('.scratch.qcow2')) return []
    if (isInUse(volume, owner, facts)) return []
    const { name, path, changedAt } = volume
    const proof = proofOf(volume, owner, facts)
    const doubt = doubtOf(owner, facts) ?? (kind === 'scratch' ? runningJob(owner, facts) : undefined)
    return [judged(facts, { kind, name, changedAt, paths: [path, name], proof, doubt })]
  })
}

/** Of a VM that is there its disks are; a foreign domain of the name has all that is named so. */
function isInUse({ name, path }: VolumeSurvey, owner: string, facts: OrphanFacts): boolean {
  if (facts.usedFiles.has(path) || facts.usedFiles.has(name)) return true
  const vm = facts.vms.find(({ specification }) => shortId(specification) === owner)
  if (vm === undefined) return facts.owners.has(owner)
  return name === vm.placement.rootVolume || name === vm.placement.dataVolume
}

function proofOf({ name, backing }: VolumeSurvey, owner: string, facts: OrphanFacts): string | undefined {
  const known = knownOwner(owner, [...facts.knownVms, ...facts.vms.map(({ specification }) => specification)])
  if (known !== undefined) return `VM ${known.name} (${known.uuid}) was on this host`
  const key = facts.keys.find(({ volume }) => volume === name)
  if (key !== undefined) return `this host holds its key ${key.id}`
  if (isOurBase(backing, facts)) return `it stands on our image ${posix.basename(backing ?? '')}`
  const sibling = facts.volumes.find(
    (other) => other.name !== name && diskOwner(other.name) === owner && isOurBase(other.backing, facts)
  )
  return sibling && `it belongs to ${sibling.name}, which stands on an image of ours`
}

/** In the pool, where nobody else writes images under the name of their digest. */
function isOurBase(backing: string | undefined, { volumes: all }: OrphanFacts): boolean {
  const base = all.find(({ path }) => path === backing)
  return base !== undefined && digestOfBase(base.name) !== undefined
}

function doubtOf(owner: string, facts: OrphanFacts): string | undefined {
  const kept = knownOwner(owner, facts.keep)
  const isThere = facts.vms.some(({ specification }) => shortId(specification) === owner)
  if (kept !== undefined && !isThere) return `the scheduler knows VM ${kept.name} to be here`
  const name = owner.slice(0, owner.lastIndexOf('.'))
  const uuid = owner.slice(owner.lastIndexOf('.') + 1)
  const work = facts.underWay.find((each) => each.vm === name || each.uuid?.startsWith(uuid) === true)
  return work && workOn(facts, { ...(work.vm && { name: work.vm }), ...(work.uuid && { uuid: work.uuid }) })
}

/** A backup goes on without its agent, also one of which no journal knows. The VM's next backup ends it. */
function runningJob(owner: string, { vms }: OrphanFacts): string | undefined {
  const vm = vms.find(({ specification }) => shortId(specification) === owner)
  return vm?.run == null ? undefined : 'its VM runs and may write to it; its next backup removes it'
}

function knownOwner(owner: string, vms: readonly KnownVm[]): KnownVm | undefined {
  return vms.find((vm) => shortId(vm) === owner)
}
