// What must be well before a machine becomes a host: those of the doctor's checks that no step of the set-up mends.

import type { AgentConfig } from '../../agent/config.ts'
import type { Finding } from '../../agent/doctor/checks.ts'
import { checksBeforeInit, examine } from '../../agent/doctor/checks.ts'
import { gather } from '../../agent/doctor/gather.ts'
import type { JoinToken } from '../../protocol/join-token.ts'

const deadlineMs = 120_000

export interface Preflight {
  readonly failures: readonly Finding[]
  readonly warnings: readonly Finding[]
  /** VMs of hostlet's that are on this machine already. */
  readonly vms: number
}

/** A new host has no policy, and needs none yet: only a broken one is told. */
const needsNoWarning = ['policy']

export async function preflight(
  config: AgentConfig,
  join: JoinToken | undefined,
  signal: AbortSignal
): Promise<Preflight> {
  const wait = { signal: AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]) }
  const facts = await gather(config, wait, join)
  const found = examine(facts).filter(({ id }) => checksBeforeInit.includes(id))
  return {
    failures: found.filter(({ status }) => status === 'failed'),
    warnings: found.filter(({ status, id }) => status === 'warning' && !needsNoWarning.includes(id)),
    vms: 'value' in facts.libvirt ? facts.libvirt.value.vms.length : 0
  }
}
