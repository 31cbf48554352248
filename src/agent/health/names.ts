// VMs in the message of a condition.

/** VMs that a message names; the rest is counted. */
export const namedVmsMax = 5

/** The first ones by name, the rest counted. */
export function namesOf(vms: readonly string[]): string {
  const named = vms.slice(0, namedVmsMax)
  const rest = vms.length - named.length
  return rest === 0 ? named.join(', ') : `${named.join(', ')} and ${rest} others`
}
