// What differs between a VM and its file, key by key, and why some of it cannot be: a table of comparisons.

import { isDeepStrictEqual } from 'node:util'
import type { VmSpecificationResult } from '../../protocol/plan.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import { backupOf, bytesText, diskLimitsOf, egressText, portTexts, probeText, readyOf } from './texts.ts'
import type { WantedVm } from './wanted.ts'

export interface Change {
  /** As the file calls it. */
  readonly what: string
  readonly from: string
  readonly to: string
  /** Why it is not done. */
  readonly refused?: string
}

export interface ExistingVm extends VmSpecificationResult {
  readonly host: string
}

export interface DifferenceOptions {
  /** Root disks may be made anew. */
  readonly replace: boolean
}

export function changesOf(wanted: WantedVm, existing: ExistingVm, options: DifferenceOptions): Change[] {
  return [
    ...placeChanges(wanted, existing),
    ...sizeChanges(wanted, existing),
    ...madeOnce(wanted, existing),
    ...imageChanges(wanted, existing, options),
    ...scheduleChanges(wanted, existing),
    ...powerChanges(wanted, existing)
  ]
}

export function isOff({ vm }: Pick<ExistingVm, 'vm'>): boolean {
  return vm.state === 'stopped' || vm.state === 'crashed'
}

function placeChanges({ host, profile }: WantedVm, existing: ExistingVm): Change[] {
  const { specification } = existing
  return [
    ...compared(
      'host',
      existing.host,
      host,
      () =>
        `VMs are not moved. Back it up, and have it made there with "hostlet vm restore ${specification.name} --host ${host}".`
    ),
    ...compared(
      'profile',
      specification.profile,
      profile,
      () => 'the profile of a VM stays. Restore a backup of it with "hostlet vm restore --as NEW --profile".'
    )
  ]
}

/** Sizes and limits, which vm.resize changes. */
function sizeChanges(wanted: WantedVm, { specification }: ExistingVm): Change[] {
  const { cpus, memoryBytes, rootDiskBytes, dataDiskBytes, cpuLimitPercent, diskLimits } = wanted
  const had = specification
  const limit = (percent: number | null | undefined) => (percent == null ? 'none' : String(percent))
  return [
    ...compared('cpus', String(had.cpus), text(cpus, String)),
    ...compared('memory', bytesText(had.memoryBytes), text(memoryBytes, bytesText)),
    ...compared('disk', bytesText(had.rootDiskBytes), text(rootDiskBytes, bytesText), () =>
      smaller(had.rootDiskBytes, rootDiskBytes)
    ),
    ...compared(
      'dataDisk',
      text(had.dataDiskBytes, bytesText) ?? 'none',
      text(dataDiskBytes, bytesText),
      () =>
        had.dataDiskBytes === undefined
          ? 'a data disk is made with its VM, and cannot be added later. Make a VM with one.'
          : smaller(had.dataDiskBytes, dataDiskBytes)
    ),
    ...compared(
      'cpuLimit',
      limit(had.cpuLimitPercent),
      cpuLimitPercent === undefined ? undefined : limit(cpuLimitPercent)
    ),
    ...compared(
      'diskLimits',
      json(diskLimitsOf(had.diskLimits ?? {})),
      text(diskLimits, (limits) => json(diskLimitsOf(limits)))
    )
  ]
}

function smaller(hadBytes: number, wantedBytes: number | undefined): string | undefined {
  return (wantedBytes ?? 0) < hadBytes ? 'disks only grow. Ask for more, or make a new VM.' : undefined
}

/** What nothing changes of a VM that is made; there is no verb for it. */
function madeOnce(wanted: WantedVm, { specification }: ExistingVm): Change[] {
  const { network = {}, ready = {}, health = [], consoleLog = false } = specification
  const { egress, dns, receiveBytesPerSecondMax, transmitBytesPerSecondMax } = wanted.network
  const rate = (bytes: number | undefined) => text(bytes, bytesText)
  const profiles = 'as its profile says'
  const fixed = (key: string) => () =>
    `"${key}" is settled when a VM is made: no command changes it yet. Make the VM anew, or take the line out.`
  const list = (items: readonly string[]) => (items.length === 0 ? 'none' : items.toSorted().join(' '))
  return [
    ...compared(
      'egress',
      text(network.egress, (one) => list([egressText(one)].flat())) ?? profiles,
      text(egress, (one) => list([egressText(one)].flat())),
      fixed('egress')
    ),
    ...compared(
      'dns',
      network.dns === undefined ? profiles : yes(network.dns),
      sameAs(network.dns ?? true, dns) ? undefined : text(dns, yes),
      fixed('dns')
    ),
    ...compared(
      'receiveLimit',
      rate(network.receiveBytesPerSecondMax) ?? profiles,
      rate(receiveBytesPerSecondMax),
      fixed('receiveLimit')
    ),
    ...compared(
      'transmitLimit',
      rate(network.transmitBytesPerSecondMax) ?? profiles,
      rate(transmitBytesPerSecondMax),
      fixed('transmitLimit')
    ),
    ...compared(
      'ports',
      list(portTexts(network.ports)),
      text(wanted.ports, (ports) => list(portTexts(ports))),
      fixed('ports')
    ),
    ...compared(
      'ready',
      json(readyOf(ready)),
      text(wanted.ready, (one) => json(readyOf(one))),
      fixed('ready')
    ),
    ...compared(
      'health',
      list(health.map(probeText)),
      text(wanted.health, (probes) => list(probes.map(probeText))),
      fixed('health')
    ),
    ...compared('consoleLog', yes(consoleLog), text(wanted.consoleLog, yes), fixed('consoleLog'))
  ]
}

/** What only a new root disk changes: the image, and what the seed says to a guest's first boot. */
function imageChanges(
  { image, seed }: WantedVm,
  { specification }: ExistingVm,
  { replace }: DifferenceOptions
): Change[] {
  const had = specification.seed
  const anew = () =>
    replace
      ? undefined
      : 'only a new root disk changes it, and what is on the old one is lost. With --replace it is made.'
  const seedless = () => 'a VM without a seed gets none later. Make the VM anew.'
  const isSeedless = (seed === null) !== (had === undefined) && seed !== undefined
  return [
    ...(image === undefined || isSameImage(image, specification.image)
      ? []
      : compared('image', imageText(specification.image), imageText(image), anew)),
    ...(isSeedless
      ? [
          refusedChange(
            'seed',
            had === undefined ? 'none' : 'there is one',
            seed === null ? 'none' : 'there is one',
            seedless()
          )
        ]
      : seed == null
        ? []
        : [
            ...compared('hostname', had?.hostname ?? specification.name, seed.hostname, anew),
            ...compared(
              'sshKeys',
              keysText(had?.sshAuthorizedKeys),
              text(seed.sshAuthorizedKeys, keysText),
              anew
            ),
            ...compared(
              'hardened',
              text(had?.hardened, yes) ?? 'as its image',
              text(seed.hardened, yes),
              anew
            )
          ])
  ]
}

function scheduleChanges({ backup }: WantedVm, { backupSchedule }: ExistingVm): Change[] {
  if (backup === undefined || isDeepStrictEqual(backup, backupSchedule)) return []
  return [{ what: 'backup', from: scheduleText(backupSchedule), to: scheduleText(backup) }]
}

function powerChanges({ wanted }: WantedVm, { vm }: ExistingVm): Change[] {
  const isOff = vm.state === 'stopped' || vm.state === 'crashed'
  if (wanted === undefined || (vm.wanted === wanted && isOff === (wanted === 'stopped'))) return []
  return [
    {
      what: 'wanted',
      from: isOff ? `stopped (wanted ${vm.wanted})` : `${vm.state} (wanted ${vm.wanted})`,
      to: wanted
    }
  ]
}

/** Nothing where the file does not say, or says what is. */
function compared(
  what: string,
  from: string,
  to: string | undefined,
  refuse: () => string | undefined = () => undefined
): Change[] {
  if (to === undefined || to === from) return []
  const refused = refuse()
  return [refused === undefined ? { what, from, to } : { what, from, to, refused }]
}

export function refusedChange(what: string, from: string, to: string, refused: string): Change {
  return { what, from, to, refused }
}

function text<Value>(value: Value | undefined, write: (value: Value) => string): string | undefined {
  return value === undefined ? undefined : write(value)
}

/** An image is its bytes, wherever they are fetched from. */
function isSameImage(one: VmSpecification['image'], other: VmSpecification['image']): boolean {
  return one.sha256 === other.sha256 && one.format === other.format
}

function imageText({ url, sha256, format }: VmSpecification['image']): string {
  return `${url} (${format}, sha256 ${sha256.slice(0, 16)}…)`
}

export function scheduleText(schedule: WantedVm['backup']): string {
  return schedule == null ? 'none' : json(backupOf(schedule))
}

function keysText(keys: readonly string[] = []): string {
  return keys.length === 0 ? 'none' : keys.map((key) => key.split(' ').slice(0, 2).join(' ')).join(', ')
}

function yes(value: boolean): string {
  return value ? 'yes' : 'no'
}

function sameAs(one: boolean, other: boolean | undefined): boolean {
  return other === undefined || one === other
}

/** `{}` reads as nothing. */
function json(value: object): string {
  return Object.keys(value).length === 0 ? 'none' : JSON.stringify(value)
}
