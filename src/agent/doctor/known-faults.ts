// Faults of libvirt and QEMU that matter to hostlet, by upstream's versions. Distributions mend older ones, which a version does not tell.

export interface KnownFault {
  readonly component: 'libvirt' | 'QEMU'
  /** The first with it; undefined for all before `fixedIn`. */
  readonly from?: string
  /** The first without it. */
  readonly fixedIn: string
  /** `note`: hostlet goes round it. `warning`: it is felt. */
  readonly weight: 'note' | 'warning'
  /** What happens, in a few words. */
  readonly what: string
  readonly todo: string
}

export const knownFaults: readonly KnownFault[] = [
  {
    component: 'libvirt',
    fixedIn: '9.0.0',
    weight: 'warning',
    what: 'older than any that hostlet is tried with',
    todo: 'Upgrade the distribution: Debian 12 has 9.0.'
  },
  {
    component: 'libvirt',
    from: '11.0.0',
    fixedIn: '11.5.0',
    weight: 'warning',
    what: "reading a VM's definition waits for jobs on it and may time out",
    todo: 'Upgrade libvirt to 11.5 or newer. VMs run on; the agent tries again by itself.'
  },
  {
    component: 'libvirt',
    fixedIn: '11.10.0',
    weight: 'note',
    what: 'a guest that shuts itself down ends its running backup; the next one makes up for it',
    todo: 'Upgrade to 11.10 or newer.'
  },
  {
    component: 'libvirt',
    fixedIn: '11.6.0',
    weight: 'note',
    what: "nwfilter's base chains are gone for a moment at each VM start; hostlet's own rules are not",
    todo: 'Upgrade to 11.6 or newer where other VMs use nwfilter.'
  },
  {
    component: 'QEMU',
    fixedIn: '7.2.0',
    weight: 'warning',
    what: 'older than any that hostlet is tried with',
    todo: 'Upgrade the distribution: Debian 12 has 7.2.'
  }
]

/** Those that a version has, the weightiest first. */
export function faultsOf(component: KnownFault['component'], version: string): KnownFault[] {
  const parts = versionIn(version)
  if (parts === undefined) return []
  return knownFaults
    .filter((fault) => fault.component === component)
    .filter(
      ({ from, fixedIn }) =>
        (from === undefined || isAtLeast(parts, versionIn(from) ?? [])) &&
        !isAtLeast(parts, versionIn(fixedIn) ?? [])
    )
    .toSorted((one, other) => Number(other.weight === 'warning') - Number(one.weight === 'warning'))
}

export function versionIn(text: string): readonly number[] | undefined {
  const found = /(\d+)\.(\d+)\.(\d+)/.exec(text)
  return found === null ? undefined : found.slice(1).map(Number)
}

export function isAtLeast(version: readonly number[], least: readonly number[]): boolean {
  for (const [index, part] of least.entries()) {
    const own = version[index] ?? 0
    if (own !== part) return own > part
  }
  return true
}
