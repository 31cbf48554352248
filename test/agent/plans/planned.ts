// Asks for the plan of a command as an agent's dispatcher would, of a host without a journal.

import type { Host } from '../../../src/agent/host/host.ts'
import { openGate } from '../../../src/agent/operations/gate.ts'
import { Planner } from '../../../src/agent/operations/planner.ts'
import { VerbTable } from '../../../src/agent/operations/verb-table.ts'
import { verbs } from '../../../src/agent/verbs/registry.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { Plan, type PolicyForecast } from '../../../src/protocol/plan.ts'
import { compile } from '../../../src/protocol/validate.ts'

const check = compile(Plan, 'plan')

export interface PlanOptions {
  readonly about: { readonly vm: string; readonly uuid: string }
  /** What the policy of the host says; it allows everything without. */
  readonly policy?: PolicyForecast
}

/** As it comes over the wire. */
export async function planned(
  host: Host,
  verb: string,
  args: Record<string, unknown>,
  { about, policy = { verdict: 'allowed' } }: PlanOptions
): Promise<Plan> {
  const signal = AbortSignal.timeout(60_000)
  const planner = new Planner({
    host,
    verbs: new VerbTable(verbs),
    drain: { check: () => undefined },
    gate: { ...openGate, foresee: async () => policy },
    journal: { generationOf: () => undefined },
    generationOf: async ({ vm }) => (await host.hypervisor.findVm(vm, { signal }))?.generation ?? 0,
    clock: host.clock
  })
  const changes = verbs.find(({ name }) => name === verb)?.changes
  const asked = { verb, arguments: args, ...(changes && { subject: about }) }
  const plan = await planner.plan(asked, {
    ...{ id: '0199c0de-0000-7000-8000-000000000001', verb: 'operation.plan', subject: undefined },
    ...{ signal, log: silentLogger, notes: {}, progress: () => undefined }
  })
  return check(JSON.parse(JSON.stringify(plan))) as Plan
}
