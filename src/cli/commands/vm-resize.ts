// hostlet vm resize NAME

import { HostletError } from '../../errors.ts'
import type { OperationView, ResizeVmRequest } from '../../protocol/api.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { parseBytes, parseInteger } from '../quantities.ts'
import { vmAction } from '../vm-action.ts'

interface Options {
  readonly cpus?: string
  readonly memory?: string
  readonly disk?: string
  readonly dataDisk?: string
  readonly cpuLimit?: string
  readonly diskRate?: string
  readonly diskIops?: string
}

const none = 'none'
const words: Readonly<Record<string, string>> = {
  cpus: 'vCPUs',
  memoryBytes: 'memory',
  rootDiskBytes: 'root disk',
  dataDiskBytes: 'data disk',
  cpuLimitPercent: 'CPU limit',
  diskLimits: 'disk limits'
}

export const define: Define = (command, cli) => {
  command
    .option('--cpus <count>', 'virtual CPUs, from its next start on')
    .option('--memory <size>', 'memory, from its next start on')
    .option('--disk <size>', 'size of the root disk; it only grows')
    .option('--data-disk <size>', 'size of the data disk; it only grows')
    .option('--cpu-limit <percent>', 'most CPU time it may use, in percent of one core; none takes it away')
    .option('--disk-rate <size>', 'most bytes a second of each disk; none leaves the profile’s')
    .option('--disk-iops <count>', 'most requests a second of each disk; none leaves the profile’s')
  vmAction<Options>(command, cli, { action: 'resize', body: bodyOf, done })
  examples(
    command,
    'hostlet vm resize web-1 --cpus 4 --memory 8GiB',
    'hostlet vm resize web-1 --disk 40GiB',
    'hostlet vm resize web-1 --cpu-limit 150'
  )
}

/** Throws E_BAD_REQUEST for what cannot be read, and where nothing is asked for. */
function bodyOf(options: Options): ResizeVmRequest {
  const { cpus, memory, disk, dataDisk, cpuLimit } = options
  const body: ResizeVmRequest = {
    ...(cpus !== undefined && { cpus: integer('--cpus', cpus, 256) }),
    ...(memory !== undefined && { memoryBytes: parseBytes(memory) }),
    ...(disk !== undefined && { rootDiskBytes: parseBytes(disk) }),
    ...(dataDisk !== undefined && { dataDiskBytes: parseBytes(dataDisk) }),
    ...(cpuLimit !== undefined && {
      cpuLimitPercent: cpuLimit === none ? null : integer('--cpu-limit', cpuLimit, 25_600)
    }),
    ...diskLimitsOf(options)
  }
  if (Object.keys(body).length > 0) return body
  throw new HostletError('E_BAD_REQUEST', 'say what to change, such as --cpus 4. See --help.')
}

/** Both together are the VM's limits: one alone leaves no other. */
function diskLimitsOf({ diskRate, diskIops }: Options): Pick<ResizeVmRequest, 'diskLimits'> {
  if (diskRate === undefined && diskIops === undefined) return {}
  return {
    diskLimits: {
      ...(diskRate !== undefined && diskRate !== none && { bytesPerSecondMax: parseBytes(diskRate) }),
      ...(diskIops !== undefined &&
        diskIops !== none && { operationsPerSecondMax: integer('--disk-iops', diskIops, 10_000_000) })
    }
  }
}

function integer(what: string, text: string, maximum: number): number {
  return parseInteger(text, { what, minimum: 1, maximum })
}

function done({ vm = '', value }: OperationView): string {
  const changes = Array.isArray(value?.changes) ? value.changes : []
  const of = (when: string) =>
    changes.filter(({ applied }) => applied === when).map(({ what }) => words[what] ?? String(what))
  const now = of('live')
  const later = of('next start')
  return [
    ...(now.length > 0 ? [`VM ${vm} has it now: ${now.join(', ')}.`] : []),
    ...(later.length > 0 ? [`From the next start of VM ${vm} on: ${later.join(', ')}.`] : [])
  ].join(' ')
}
