// How fast a VM's disks may be: the tighter of what its profile allows and what it asks for.

import { HostletError } from '../../errors.ts'
import type { DiskLimits, VmSpecification } from '../../protocol/vm.ts'

const fields = ['bytesPerSecondMax', 'operationsPerSecondMax'] as const

export function tighterLimits(one: DiskLimits, other: DiskLimits | undefined): DiskLimits {
  const limits: Record<string, number> = {}
  for (const field of fields) {
    const given = [one[field], other?.[field]].filter((value) => value !== undefined)
    if (given.length > 0) limits[field] = Math.min(...given)
  }
  return limits
}

/** A command may tighten a profile, never loosen it. Throws E_BAD_REQUEST. */
export function refuseLooser(
  { name, profile, diskLimits }: Pick<VmSpecification, 'name' | 'profile' | 'diskLimits'>,
  allowed: DiskLimits
): void {
  for (const field of fields) {
    const [wanted, most] = [diskLimits?.[field], allowed[field]]
    if (wanted === undefined || most === undefined || wanted <= most) continue
    throw new HostletError(
      'E_BAD_REQUEST',
      `VM ${name} asks for diskLimits.${field} ${wanted}, its profile ${profile} allows ${most}. Ask for that or less, or choose another profile.`,
      { details: { vm: name, profile, wanted, allowed: most } }
    )
  }
}
