// The rules of a policy in words, and what they would ask of one command: for the doctor and for `hostlet policy check`.

import { concerns, fitsVerb } from './asked.ts'
import type { CommandPolicy } from './command-sections.ts'
import { fits } from './patterns.ts'

/** Each rule in a few words. */
export function rulesOf({ forbid, images, limits, teardown, rates, approvals }: CommandPolicy): string[] {
  return [
    ...(forbid.length === 0 ? [] : [`forbidden: ${forbid.join(', ')}`]),
    ...(images?.allow === undefined ? [] : [`images of ${images.allow.join(', ') || 'nowhere'}`]),
    ...(images?.digests === undefined ? [] : [`${images.digests.length} images by digest`]),
    ...Object.entries(limits ?? {}).map(([what, bounds]) => `${whose[what] ?? what}: ${boundsText(bounds)}`),
    ...teardown.map(({ vms, requireRetainDays, keepBackups }) => {
      const kept = requireRetainDays === undefined ? [] : [`keeps the VM for ${requireRetainDays} days`]
      return `teardown${ofVms(vms)} ${[...kept, ...(keepBackups ? ['keeps backups'] : [])].join(' and ')}`
    }),
    ...rates.map(({ verbs, vms, max, per }) => `${max} of ${verbs.join(', ')}${ofVms(vms)} in ${per}`),
    ...(approvals?.require ?? []).map(
      ({ verbs, vms, count, of }) =>
        `${verbs.join(', ')}${ofVms(vms)} wants ${count} of the approvers ${(of ?? Object.keys(approvals?.approvers ?? {})).join(', ')}`
    )
  ]
}

/** What the rules would ask of a command for one VM, or for none; what depends on the host's other VMs is said so. */
export function explain(commands: CommandPolicy, { verb, vm }: { verb: string; vm?: string }): string[] {
  const vms = { vms: vm === undefined ? [] : [{ name: vm }], unknown: false }
  const of = ({ verbs, vms: patterns }: { verbs: readonly string[]; vms?: readonly string[] }) =>
    fitsVerb(verbs, verb) && concerns(patterns, vms)
  const forbidding = commands.forbid.find((pattern) => fits(pattern, verb))
  if (forbidding !== undefined) return [`refused: ${verb} is forbidden (${forbidding})`]
  const { images, limits, teardown, rates, approvals } = commands
  const narrowed: CommandPolicy = {
    forbid: [],
    ...(images !== undefined && withImage.includes(verb) && { images }),
    ...(limits !== undefined && withSizes.includes(verb) && { limits }),
    teardown: verb === 'vm.teardown' ? teardown.filter((rule) => concerns(rule.vms, vms)) : [],
    rates: rates.filter(of),
    ...(approvals !== undefined && {
      approvals: { approvers: approvals.approvers, require: approvals.require.filter(of) }
    })
  }
  return rulesOf(narrowed)
}

const withImage = ['vm.provision', 'vm.reimage', 'image.prefetch']
const withSizes = ['vm.provision', 'vm.resize', 'vm.restore']
const whose: Readonly<Record<string, string>> = {
  vm: 'each VM',
  host: 'all VMs',
  portMappings: 'port mappings'
}

function boundsText(bounds: object): string {
  return Object.entries(bounds)
    .map(([name, bound]) => `${name} ${Array.isArray(bound) ? bound.join(' ') || 'none' : bound}`)
    .join(', ')
}

function ofVms(vms: readonly string[] | undefined): string {
  return vms === undefined ? '' : ` of ${vms.join(', ')}`
}
