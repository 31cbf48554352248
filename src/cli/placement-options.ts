// Options that say where a VM should stand, and the same in words.

import type { Command } from 'commander'
import { HostletError } from '../errors.ts'
import type { Labels, PlacementWish } from '../protocol/placement.ts'

export interface PlacementOptions {
  readonly require?: readonly string[]
  readonly prefer?: readonly string[]
  readonly group?: string
  readonly spreadBy?: string
  readonly apart?: boolean
}

export function declarePlacement(command: Command): void {
  command
    .option('--require <label=value>', 'only on a host with this label; may be repeated', collect)
    .option('--prefer <label=value>', 'rather on a host with this label; may be repeated', collect)
    .option('--group <name>', 'VMs of a group are spread over hosts')
    .option('--spread-by <label>', 'spread the group over the values of a label, such as rack, instead')
    .option('--apart', 'never two of the group on one host (or rack), instead of as few as possible')
}

/** Undefined where nothing is wished. Throws E_BAD_REQUEST. */
export function wishOf(options: PlacementOptions): PlacementWish | undefined {
  const { require, prefer, group, spreadBy, apart } = options
  if (group === undefined && (spreadBy !== undefined || apart))
    throw new HostletError(
      'E_BAD_REQUEST',
      '--spread-by and --apart are about the VMs of a group. Name it with --group.'
    )
  const wish = {
    ...(require && { require: labelsOf(require, '--require') }),
    ...(prefer && { prefer: labelsOf(prefer, '--prefer') }),
    ...(group !== undefined && { group }),
    ...(spreadBy !== undefined && { spreadBy }),
    ...(apart && { apart })
  }
  return Object.keys(wish).length === 0 ? undefined : wish
}

/** `region=eu` as a label. Throws E_BAD_REQUEST; what a label may be is the scheduler's to judge. */
export function labelsOf(texts: readonly string[], what: string): Labels {
  return Object.fromEntries(
    texts.map((text) => {
      const [, key, value] = /^([^=]+)=([^=]+)$/.exec(text) ?? []
      if (key !== undefined && value !== undefined) return [key, value]
      throw new HostletError('E_BAD_REQUEST', `${what} takes label=value, such as region=eu, not "${text}".`)
    })
  )
}

export function describeLabels(labels: Labels): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ')
}

export function describeWish({ require, prefer, group, spreadBy, apart }: PlacementWish): string {
  return [
    require && `requires ${describeLabels(require)}`,
    prefer && `prefers ${describeLabels(prefer)}`,
    group && `group ${group}, ${apart ? 'apart' : 'spread'} by ${spreadBy ?? 'host'}`
  ]
    .filter((text) => text !== undefined)
    .join('; ')
}

function collect(text: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), text]
}
