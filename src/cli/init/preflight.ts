// What must be well before a machine becomes a host: those of the doctor's checks that no step of the set-up mends.

import type { AgentConfig } from '../../agent/config.ts'
import type { Finding } from '../../agent/doctor/checks.ts'
import { checksBeforeInit, examine } from '../../agent/doctor/checks.ts'
import { gather } from '../../agent/doctor/gather.ts'
import type { JoinToken } from '../../protocol/join-token.ts'

const deadlineMs = 120_000

/** What fails and what warns. */
export async function preflight(
  config: AgentConfig,
  join: JoinToken | undefined,
  signal: AbortSignal
): Promise<{ readonly failures: readonly Finding[]; readonly warnings: readonly Finding[] }> {
  const wait = { signal: AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]) }
  const found = examine(await gather(config, wait, join)).filter(({ id }) => checksBeforeInit.includes(id))
  const of = (status: Finding['status']) => found.filter((finding) => finding.status === status)
  return { failures: of('failed'), warnings: of('warning') }
}
