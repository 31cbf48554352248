// Why a VM stands where it does, or would, for people: the ranking, then what refused the others.

import type { PlacementView } from '../protocol/placement.ts'
import type { Cli } from './cli.ts'
import { describeWish } from './placement-options.ts'
import { formatBytes } from './quantities.ts'
import { type Column, renderTable } from './table.ts'

type Ranked = PlacementView['ranking'][number]
type Refused = PlacementView['refused'][number]

export function placementLines(
  placement: PlacementView,
  cli: Pick<Cli, 'width' | 'colour'>
): readonly string[] {
  const { ranking, refused, refusedBy, hosts } = placement
  const options = { width: cli.width, colour: cli.colour }
  const others = refusedBy.reduce((sum, one) => sum + one.hosts, 0) - refused.length
  return [
    `${headline(placement)} ${wantedText(placement)}`,
    ...(ranking.length === 0 ? [] : ['', ...renderTable(rankColumns(ranking), ranking, options)]),
    ...(refused.length === 0
      ? []
      : [
          '',
          `Refused, of ${hosts} host${hosts === 1 ? '' : 's'}: ${refusedBy.map(({ text }) => text).join(', ')}.`,
          ...renderTable(refusedColumns, refused, options),
          ...(others > 0 ? [`and ${others} more`] : [])
        ])
  ]
}

function headline({ host, named, refused }: PlacementView): string {
  if (host === undefined) return 'No host takes it:'
  if (!named) return `Host ${host}:`
  return refused.length === 0
    ? `Host ${host}, which was named:`
    : `Host ${host}, which was named, against this:`
}

function wantedText({ wanted }: PlacementView): string {
  const { cpus, memoryBytes, diskBytes, profile, ...wish } = wanted
  const size = `${cpus} vCPU${cpus === 1 ? '' : 's'}, ${formatBytes(memoryBytes)} of memory, ${formatBytes(diskBytes)} of disks`
  const rest = [profile && `profile ${profile}`, describeWish(wish)].filter((text) => text)
  return [size, ...rest].join('; ')
}

/** A column for each score that tells hosts apart. */
function rankColumns(ranking: readonly Ranked[]): readonly Column<Ranked>[] {
  const parts = Object.keys(ranking[0]?.parts ?? {}).filter((id) =>
    ranking.some((one) => one.parts[id] !== 0)
  )
  return [
    { title: 'HOST', cell: ({ host }) => host },
    { title: 'SCORE', cell: ({ score }) => score.toFixed(2), align: 'right' },
    ...parts.map(
      (id): Column<Ranked> => ({
        title: id.toUpperCase(),
        cell: (one) => (one.parts[id] ?? 0).toFixed(2),
        align: 'right'
      })
    )
  ]
}

const refusedColumns: readonly Column<Refused>[] = [
  { title: 'HOST', cell: ({ host }) => host },
  { title: 'FILTER', cell: ({ filter }) => filter },
  { title: 'WHY', cell: ({ why }) => why, shrinks: true }
]
