// What is to be done to have a VM as its file wants it: the requests, in order. Pure.

import type { CreateVmRequest, ReimageRequest, ResizeVmRequest } from '../../protocol/api.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import { apiPath } from '../api-client.ts'
import {
  type Change,
  changesOf,
  type DifferenceOptions,
  type ExistingVm,
  isOff,
  refusedChange,
  scheduleText
} from './changes.ts'
import { bytesText } from './texts.ts'
import type { WantedVm } from './wanted.ts'

export const actionKinds = ['create', 'resize', 'schedule', 'reimage', 'start', 'stop'] as const
export type ActionKind = (typeof actionKinds)[number]

/** One request to the scheduler; they are made in order, each when the one before it is done. */
export interface Action {
  readonly kind: ActionKind
  readonly method: 'POST' | 'PUT' | 'DELETE'
  readonly path: string
  readonly body?: unknown
}

export interface Difference {
  readonly vm: string
  readonly where: string
  /** Where it is; undefined for one that is to be made. */
  readonly host: string | undefined
  readonly changes: readonly Change[]
  /** Empty where something is refused: nothing is done by halves. */
  readonly actions: readonly Action[]
}

export function differenceOf(
  wanted: WantedVm,
  existing: ExistingVm | undefined,
  options: DifferenceOptions
): Difference {
  if (existing === undefined) return newVm(wanted)
  const changes = changesOf(wanted, existing, options)
  const isRefused = changes.some(({ refused }) => refused !== undefined)
  const { name: vm, where } = wanted
  const actions = isRefused ? [] : actionsFor(wanted, existing, new Set(changes.map(({ what }) => what)))
  return { vm, where, host: existing.host, changes, actions }
}

/** What `hostlet vm create` takes where nothing is said. */
const defaults = { profile: 'starter', cpus: 1, memoryBytes: 512 * 1024 ** 2, rootDiskBytes: 4 * 1024 ** 3 }

function newVm(wanted: WantedVm): Difference {
  const { name: vm, where, host, image, backup, wanted: power } = wanted
  const common = { vm, where, host: undefined }
  if (image === undefined)
    return {
      ...common,
      changes: [
        refusedChange(
          'vm',
          'none',
          'made',
          'the VM does not exist. Give "image" and "sha256" to have it made.'
        )
      ],
      actions: []
    }
  const { cpus, memoryBytes, rootDiskBytes, profile } = { ...defaults, ...wanted }
  const place = host === undefined ? 'a host of the scheduler’s choice' : `host ${host}`
  const sizes = `${cpus} ${cpus === 1 ? 'CPU' : 'CPUs'}, ${bytesText(memoryBytes)} memory, ${bytesText(rootDiskBytes)} disk`
  const to = `${profile} on ${place}, ${sizes}, of ${image.url}`
  const body: CreateVmRequest = {
    specification: specificationOf(wanted, image),
    ...(host !== undefined && { host }),
    ...(wanted.placement !== undefined && { placement: wanted.placement })
  }
  return {
    ...common,
    changes: [
      { what: 'vm', from: 'none', to },
      ...(backup ? [{ what: 'backup', from: 'none', to: scheduleText(backup) }] : [])
    ],
    actions: [
      { kind: 'create', method: 'POST', path: '/v1/vms', body },
      ...(backup ? [scheduleAction(vm, backup)] : []),
      ...(power === 'stopped' ? [powerAction(vm, 'stop')] : [])
    ]
  }
}

function specificationOf(
  wanted: WantedVm,
  image: VmSpecification['image']
): CreateVmRequest['specification'] {
  const { name, dataDiskBytes, diskLimits, cpuLimitPercent, seed = {}, ready, ports, health } = wanted
  const { profile, cpus, memoryBytes, rootDiskBytes } = { ...defaults, ...wanted }
  const network = { ...wanted.network, ...(ports !== undefined && ports.length > 0 && { ports }) }
  return {
    ...{ name, profile, image, cpus, memoryBytes, rootDiskBytes },
    ...(dataDiskBytes !== undefined && { dataDiskBytes }),
    ...(diskLimits !== undefined && { diskLimits }),
    ...(typeof cpuLimitPercent === 'number' && { cpuLimitPercent }),
    ...(seed !== null && { seed }),
    ...(ready !== undefined && { ready }),
    ...(Object.keys(network).length > 0 && { network }),
    ...(health !== undefined && health.length > 0 && { health }),
    ...(wanted.consoleLog === true && { consoleLog: true })
  }
}

/** Sizes first, so that a start has them; the new root disk before the power, since it leaves the VM running. */
function actionsFor(wanted: WantedVm, existing: ExistingVm, changed: ReadonlySet<string>): Action[] {
  const { name: vm, backup, image = existing.specification.image } = wanted
  const resize = resizeOf(wanted, changed)
  const isReimaged = ['image', 'hostname', 'sshKeys', 'hardened'].some((what) => changed.has(what))
  const runs = isReimaged || !isOff(existing)
  const power = wanted.wanted ?? (isReimaged ? existing.vm.wanted : undefined)
  return [
    ...(Object.keys(resize).length === 0 ? [] : [action('resize', vm, resize)]),
    ...(changed.has('backup') ? [scheduleAction(vm, backup ?? null)] : []),
    ...(isReimaged ? [action('reimage', vm, reimageOf(wanted, image))] : []),
    ...(power === 'stopped' && (runs || existing.vm.wanted === 'running') ? [powerAction(vm, 'stop')] : []),
    ...(power === 'running' && !isReimaged && changed.has('wanted') ? [powerAction(vm, 'start')] : [])
  ]
}

function resizeOf(wanted: WantedVm, changed: ReadonlySet<string>): ResizeVmRequest {
  const { cpus, memoryBytes, rootDiskBytes, dataDiskBytes, cpuLimitPercent, diskLimits } = wanted
  return {
    ...(changed.has('cpus') && cpus !== undefined && { cpus }),
    ...(changed.has('memory') && memoryBytes !== undefined && { memoryBytes }),
    ...(changed.has('disk') && rootDiskBytes !== undefined && { rootDiskBytes }),
    ...(changed.has('dataDisk') && dataDiskBytes !== undefined && { dataDiskBytes }),
    ...(changed.has('cpuLimit') && cpuLimitPercent !== undefined && { cpuLimitPercent }),
    ...(changed.has('diskLimits') && diskLimits !== undefined && { diskLimits })
  }
}

function reimageOf({ seed }: WantedVm, image: VmSpecification['image']): ReimageRequest {
  return { image, ...(seed && { seed }) }
}

function action(kind: 'reimage' | 'resize', vm: string, body: unknown): Action {
  return { kind, method: 'POST', path: apiPath('vms', vm, kind), body }
}

function powerAction(vm: string, kind: 'start' | 'stop'): Action {
  return { kind, method: 'POST', path: apiPath('vms', vm, kind), body: {} }
}

function scheduleAction(vm: string, backup: WantedVm['backup']): Action {
  const path = apiPath('vms', vm, 'backup-schedule')
  return backup == null
    ? { kind: 'schedule', method: 'DELETE', path }
    : { kind: 'schedule', method: 'PUT', path, body: backup }
}
