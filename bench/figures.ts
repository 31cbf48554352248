// The registry of figures: each is one file in figures/, run in a process of its own, in this order.

export const figureNames = [
  'libvirt-call',
  'domain-statistics',
  'statistics-decode',
  'host-counters',
  'agent-footprint',
  'vm-start',
  'block-reading',
  'full-backup',
  'incremental-backup',
  'repository',
  'restore',
  'backup-memory',
  'noisy-neighbours',
  'command-journal',
  'fleet-metrics'
] as const

export type FigureName = (typeof figureNames)[number]

export function isFigureName(name: string): name is FigureName {
  return figureNames.some((known) => known === name)
}

/** Run in the environment that the agent's unit gives it, since they hold parts of the agent. */
export const asAgent: ReadonlySet<FigureName> = new Set([
  'full-backup',
  'incremental-backup',
  'repository',
  'restore'
])
