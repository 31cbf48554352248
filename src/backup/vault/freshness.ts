// Whether a repository shows an old state: compared with the newest snapshots that others remember.

export const freshnesses = ['known', 'unverifiable', 'rolled-back'] as const
/** `known`: nothing newer is remembered than what is there. `unverifiable`: nobody remembers a snapshot. */
export type Freshness = (typeof freshnesses)[number]

/** The newest snapshot that a host or a scheduler remembers. */
export interface Remembered {
  readonly snapshot: string
  readonly sequence?: number | undefined
}

interface Seen {
  readonly id: string
  readonly body: { readonly sequence: number; readonly previous: string | null }
}

/**
 * `rolled-back` when a remembered snapshot is missing and nothing newer is there. One that was removed by retention has a
 * newer one: the newest is never removed.
 */
export function freshnessOf(snapshots: readonly Seen[], remembered: readonly Remembered[]): Freshness {
  if (remembered.length === 0) return 'unverifiable'
  return remembered.every((one) => isThereOrOlder(snapshots, one)) ? 'known' : 'rolled-back'
}

function isThereOrOlder(snapshots: readonly Seen[], { snapshot, sequence }: Remembered): boolean {
  return snapshots.some(
    ({ id, body }) =>
      id === snapshot || body.previous === snapshot || (sequence !== undefined && body.sequence > sequence)
  )
}
