// What commands that have a host do something have in common: their options, the dry run, and the way to the operation's end.

import type { Command } from 'commander'
import { HostletError } from '../errors.ts'
import type { OperationView } from '../protocol/api.ts'
import type { PlacementView } from '../protocol/placement.ts'
import { Plan } from '../protocol/plan.ts'
import { compile } from '../protocol/validate.ts'
import { type ApiRequest, apiPath } from './api-client.ts'
import type { Session } from './client-command.ts'
import { planExitCodes } from './exit-codes.ts'
import { follow, untilDone } from './follow.ts'
import { isRefused, planLines } from './plan-text.ts'

export interface OperationOptions {
  readonly wait: boolean
  readonly dryRun?: boolean
}

export interface Operating {
  readonly options: OperationOptions
  /** The line for people when it is done. */
  readonly done: (operation: OperationView) => string
  /** The scheduler chooses its host: the plan says how. */
  readonly isPlaced?: boolean
}

/** Adds `--dry-run`, `--wait` and `--no-wait`. */
export function operationOptions(command: Command): Command {
  return waitOptions(
    command.option(
      '--dry-run',
      'change nothing: have the host tell what would be done (exits with 0, 1 or 2)'
    )
  )
}

/** Where there is no host to ask: it would be done. Throws E_UNSUPPORTED. */
export function refuseDryRunHere(options: { readonly dryRun?: boolean; readonly repository?: string }): void {
  if (!options.dryRun || options.repository === undefined) return
  throw new HostletError(
    'E_UNSUPPORTED',
    '--dry-run asks a host, and with --repository none has a part in it. Leave one of them out.'
  )
}

export function waitOptions(command: Command): Command {
  return command
    .option('--wait', 'follow the operation to its end', true)
    .option('--no-wait', 'do not follow the operation')
}

/**
 * Asks for an operation and follows it as `follow` does. With `--dry-run` it shows the plan, sets the exit status, and
 * returns nothing: undefined.
 */
export async function operate(
  session: Session,
  request: Omit<ApiRequest, 'signal'>,
  { options, done, isPlaced }: Operating
): Promise<OperationView | undefined> {
  const { client, signal } = session
  if (options.dryRun) return void (await showPlan(session, request, isPlaced === true))
  const { operation } = await client.ask({ ...request, signal }, 'OperationReply')
  return await follow(session, operation, { wait: options.wait, done })
}

export interface Planned {
  /** Of the plan. */
  readonly operation: string
  readonly host: string
  readonly plan: Plan
}

/** Has the host tell what a request would do. Throws as the request itself would where it does not get that far. */
export async function planOf(session: Session, request: Omit<ApiRequest, 'signal'>): Promise<Planned> {
  const { client, signal } = session
  const query = { ...request.query, dryRun: 'true' }
  const { operation } = await client.ask({ ...request, query, signal }, 'OperationReply')
  const { id, host, value } = await untilDone(session, operation, { quiet: true })
  return { operation: id, host, plan: compile(Plan, 'plan of the host')(value) }
}

/** Exits with 1 where the host would refuse it, 2 where something would change, 0 where nothing would. */
export function planStatus({ plan }: Pick<Planned, 'plan'>): number {
  if (isRefused(plan)) return planExitCodes.refused
  return plan.changes ? planExitCodes.changes : planExitCodes.nothing
}

async function showPlan(
  session: Session,
  request: Omit<ApiRequest, 'signal'>,
  isPlaced: boolean
): Promise<void> {
  const { cli } = session
  const { operation, ...planned } = await planOf(session, request)
  const placement = isPlaced ? await placementOf(session, operation) : undefined
  const hostNote = placement && bestOf(placement)
  cli.show({ ...planned, ...(placement && { placement }) }, () => planLines({ ...planned, hostNote }, cli))
  cli.exitStatus = planStatus(planned)
}

async function placementOf({ client, signal }: Session, operation: string): Promise<PlacementView> {
  const path = `${apiPath('operations', operation)}/placement`
  return (await client.ask({ method: 'GET', path, signal }, 'PlacementReply')).placement
}

/** How the host came to be chosen; it is chosen anew when the command is given. */
function bestOf({ hosts, refusedBy }: PlacementView): string {
  if (hosts === 1) return 'chosen by the scheduler: there is no other'
  const refused = refusedBy.reduce((sum, one) => sum + one.hosts, 0)
  return `chosen by the scheduler: the best of ${hosts - refused} that take it, of ${hosts} hosts; see hostlet host candidates`
}
