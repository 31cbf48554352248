// Everything that is looked at to tell what of a host belongs to no VM. Gathered before; the finders only judge it.

import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { OrphanItem } from '../../protocol/orphans.ts'
import type { Hypervisor, Lease, VmRecord, Wait } from '../host/hypervisor.ts'
import type { Images } from '../host/images.ts'
import type { DomainUse, SecretRecord, VolumeSurvey } from '../host/inventory-port.ts'
import { digestOfBase, shortId } from '../host/names.ts'
import type { NetworkDefinition } from '../host/network-xml.ts'
import type { Placements } from '../host/placement.ts'
import { backingIn, targetOf } from '../host/qcow2-backing.ts'
import type { KnownVm } from '../inventory/known-vms.ts'
import type { Ledger, Undertaking } from '../inventory/ledger.ts'
import type { DiskKeys } from '../keys/disk-keys.ts'

/** What has changed since belongs to work that nobody may know of. */
export const ageMsMin = 3_600_000

export interface FoundFile {
  readonly name: string
  readonly changedAt: number
}

export interface OrphanFacts {
  readonly now: number
  readonly vms: readonly VmRecord[]
  /** VMs that were there at any time during the look. */
  readonly owners: ReadonlySet<string>
  readonly uses: readonly DomainUse[]
  readonly volumes: readonly VolumeSurvey[]
  /** Why it cannot be told which files domains and volumes stand on; undefined where all of it is known. */
  readonly chainFault: string | undefined
  /** Files that domains use, and all that these stand on. */
  readonly usedFiles: ReadonlySet<string>
  readonly networks: readonly (NetworkDefinition & { readonly isOwn: boolean })[]
  /** Of the networks that VMs share. */
  readonly reservations: readonly (Lease & { readonly network: string })[]
  readonly leases: readonly (Lease & { readonly network: string })[]
  readonly secrets: readonly SecretRecord[]
  readonly seeds: readonly FoundFile[]
  readonly consoles: readonly FoundFile[]
  readonly keys: ReturnType<DiskKeys['list']>
  readonly qemuLogs: readonly FoundFile[]
  readonly knownVms: readonly KnownVm[]
  readonly underWay: readonly Undertaking[]
  /** VMs that somebody else knows to be here. */
  readonly keep: readonly KnownVm[]
  /** Base images that nobody has checked, by name: whether their bytes are others than they should be; undefined was not looked at. */
  readonly uncheckedImages: ReadonlyMap<string, boolean | undefined>
}

/** How one kind is told: what is nobody's, and whether it is provably ours. */
export type Finder = (facts: OrphanFacts) => OrphanItem[]

export interface OrphanPlaces {
  readonly hypervisor: Pick<
    Hypervisor,
    | 'listVms'
    | 'domainUses'
    | 'surveyVolumes'
    | 'listNetworks'
    | 'listReservations'
    | 'listLeases'
    | 'listSecrets'
  >
  readonly placements: Pick<Placements, 'networkNames' | 'isOwnNetwork'>
  readonly keys: { list(): ReturnType<DiskKeys['list']> }
  readonly images: Pick<Images, 'isChecked' | 'isBroken'>
  readonly seedDirectory: string
  readonly consoleDirectory: string
  readonly qemuLogDirectory: string
  readonly ledger: Ledger
  readonly clock: { now(): number }
}

/** Who owns what is looked at before and after the rest: what comes or goes meanwhile is nobody's loss. */
export async function gatherOrphanFacts(
  places: OrphanPlaces,
  { keep, checkImages }: { keep: readonly KnownVm[]; checkImages: boolean },
  wait: Wait
): Promise<OrphanFacts> {
  const { hypervisor, placements, ledger, keys, clock } = places
  const before = await ownersOf(hypervisor, wait)
  const underWayBefore = ledger.underWay()
  const volumes = await hypervisor.surveyVolumes(wait)
  const networks = (await hypervisor.listNetworks(wait)).map((network) => ({
    ...network,
    isOwn: placements.isOwnNetwork(network.name)
  }))
  const shared = placements.networkNames.filter((name) => networks.some((network) => network.name === name))
  const reservations = await ofEach(shared, (name) => hypervisor.listReservations(name, wait))
  const leases = await ofEach(shared, (name) => hypervisor.listLeases(name, wait))
  const secrets = await hypervisor.listSecrets(wait)
  const files = {
    seeds: await filesIn(places.seedDirectory),
    consoles: await filesIn(places.consoleDirectory),
    qemuLogs: await filesIn(places.qemuLogDirectory)
  }
  const keyRecords = keys.list()
  const uncheckedImages = await unchecked(volumes, { images: places.images, checkImages }, wait)
  const after = await ownersOf(hypervisor, wait)
  const uses = [...before.uses, ...after.uses]
  return {
    now: clock.now(),
    vms: after.vms,
    owners: new Set([...before.ids, ...after.ids]),
    uses,
    volumes,
    ...(await chainsOf(uses, volumes)),
    networks,
    reservations,
    leases,
    secrets,
    ...files,
    keys: keyRecords,
    knownVms: ledger.knownVms(),
    underWay: [...underWayBefore, ...ledger.underWay()],
    keep,
    uncheckedImages
  }
}

async function unchecked(
  volumes: readonly VolumeSurvey[],
  { images, checkImages }: { images: OrphanPlaces['images']; checkImages: boolean },
  wait: Wait
): Promise<ReadonlyMap<string, boolean | undefined>> {
  const found = new Map<string, boolean | undefined>()
  for (const { name } of volumes) {
    if (digestOfBase(name) === undefined || (await images.isChecked(name))) continue
    found.set(name, checkImages ? await images.isBroken(name, wait) : undefined)
  }
  return found
}

/** Short ids, UUIDs and names of all domains, ours or not. */
async function ownersOf(hypervisor: OrphanPlaces['hypervisor'], wait: Wait) {
  const uses = await hypervisor.domainUses(wait)
  const vms = await hypervisor.listVms(wait)
  const named = [...uses, ...vms.map(({ specification }) => specification)]
  return { uses, vms, ids: named.flatMap((each) => [each.uuid, shortId(each), `name ${each.name}`]) }
}

async function ofEach(names: readonly string[], list: (name: string) => Promise<readonly Lease[]>) {
  const found = await Promise.all(
    names.map(async (network) => (await list(network)).map((lease) => ({ ...lease, network })))
  )
  return found.flat()
}

async function filesIn(directory: string): Promise<FoundFile[]> {
  const names = await readdir(directory).catch(() => [])
  const found = await Promise.all(
    names.map(async (name) => {
      const changedAt = (await stat(join(directory, name)).catch(() => undefined))?.mtimeMs
      return changedAt === undefined ? [] : [{ name, changedAt }]
    })
  )
  return found.flat()
}

/** From the files that domains name down to the last one that they stand on, and from every volume of the pool to its own. */
async function chainsOf(uses: readonly DomainUse[], volumes: readonly VolumeSurvey[]) {
  const chains = new Chains(volumes)
  for (const { files } of uses) for (const file of files) chains.add(file)
  for (const { backing } of volumes) if (backing !== undefined) chains.add(backing)
  const silent = uses.find(({ complete }) => !complete)
  if (silent !== undefined) chains.blame(`libvirt does not tell what domain ${silent.name} uses`)
  for (const { name, files, openChains } of uses) {
    for (const file of files) await chains.follow(file, name)
    for (const file of openChains) await chains.read(file, name)
  }
  return { usedFiles: chains.used, chainFault: chains.fault }
}

class Chains {
  readonly used = new Set<string>()
  fault: string | undefined
  readonly #volumes: ReadonlyMap<string, VolumeSurvey>

  constructor(volumes: readonly VolumeSurvey[]) {
    this.#volumes = new Map(
      volumes.flatMap((each) => [each.path, each.name].map((key) => [key, each] as const))
    )
  }

  blame(fault: string): void {
    this.fault ??= fault
  }

  add(file: string): void {
    if (this.used.has(file)) return
    this.used.add(file)
    const volume = this.#volumes.get(file)
    if (volume === undefined) return
    this.used.add(volume.path).add(volume.name)
    if (volume.backing !== undefined) this.add(volume.backing)
  }

  /** A link may lead into the pool. */
  async follow(file: string, domain: string): Promise<void> {
    if (!file.startsWith('/') || this.#volumes.has(file)) return
    const target = await targetOf(file)
    if (target === undefined) this.blame(`where ${file} of domain ${domain} leads cannot be told`)
    else this.add(target)
  }

  /** libvirt does not say what it stands on, so the file itself has to. */
  async read(file: string, domain: string): Promise<void> {
    const chain = await backingIn(file, (each) => this.#volumes.has(each))
    if (chain === undefined) this.blame(`what ${file} of domain ${domain} stands on cannot be read`)
    for (const each of chain ?? []) {
      this.add(each)
      await this.follow(each, domain)
    }
  }
}
