// Has VMs be as files want them: looks, shows what differs, asks, and then does it, several VMs at once and each by itself.

import { asHostletError, type ErrorReport, HostletError } from '../../errors.ts'
import type { OperationView } from '../../protocol/api.ts'
import type { Plan } from '../../protocol/plan.ts'
import type { Session } from '../client-command.ts'
import { asks, confirm } from '../confirm.ts'
import { planExitCodes } from '../exit-codes.ts'
import { untilDone } from '../follow.ts'
import { planOf } from '../operate.ts'
import { sealSeed } from '../seal-seed.ts'
import { plain } from '../table.ts'
import { type Action, differenceOf } from './difference.ts'
import { readWanted } from './files.ts'
import { laterRemarks } from './later.ts'
import { findExisting } from './look.ts'
import { isFailed, type Outcome, outcomeLines, summaryOf } from './outcome-text.ts'
import type { WantedVm } from './wanted.ts'

export interface ApplyOptions {
  readonly file: readonly string[]
  readonly replace?: boolean
  readonly yes?: boolean
  readonly dryRun?: boolean
  readonly parallel: number
}

/** Sets the exit status: 1 where something could not be done, and with `dryRun` 2 where something would be. */
export async function apply(session: Session, options: ApplyOptions): Promise<void> {
  const { cli } = session
  const wanted = readWanted(options.file)
  const found = await each(wanted, options.parallel, (vm) => lookAt(session, vm, options))
  if (options.dryRun) return await showOnly(session, found, options)
  if (cli.format !== 'json') cli.print(...found.flatMap((outcome) => outcomeLines(outcome, cli)))
  const toDo = found.filter(({ actions }) => actions.length > 0)
  if (toDo.length > 0 && asks(session, options)) await ask(session, toDo)
  const done = await each(found, options.parallel, (outcome) => carryOut(session, outcome))
  cli.show({ vms: done.map(shown) }, () => [
    ...done.flatMap(({ remarks = [] }) => remarks.map(plain)),
    summaryOf(done)
  ])
  if (done.some(isFailed)) cli.exitStatus = planExitCodes.refused
}

async function lookAt(session: Session, vm: WantedVm, { replace = false }: ApplyOptions): Promise<Outcome> {
  try {
    return {
      ...differenceOf(vm, await findExisting(session, vm.name), { replace }),
      plans: [],
      operations: []
    }
  } catch (error) {
    session.signal.throwIfAborted()
    const nothing = { changes: [], actions: [], plans: [], operations: [] }
    return { vm: vm.name, where: vm.where, host: undefined, ...nothing, error: reportOf(error) }
  }
}

/** The hosts are asked as well what they would say to each request. */
async function showOnly(
  session: Session,
  found: readonly Outcome[],
  { parallel }: ApplyOptions
): Promise<void> {
  const { cli } = session
  const planned = await each(found, parallel, (outcome) => foresee(session, outcome))
  cli.show({ vms: planned.map(shown) }, () => [
    ...planned.flatMap((outcome) => outcomeLines(outcome, cli)),
    summaryOf(planned, { dryRun: true })
  ])
  if (planned.some(isFailed)) cli.exitStatus = planExitCodes.refused
  else if (planned.some(({ changes }) => changes.length > 0)) cli.exitStatus = planExitCodes.changes
}

/** Of a VM that is not there yet only its making can be foreseen. */
async function foresee(session: Session, outcome: Outcome): Promise<Outcome> {
  const isNew = outcome.actions[0]?.kind === 'create'
  const actions = isNew ? outcome.actions.slice(0, 1) : outcome.actions
  const plans: { kind: Action['kind']; host: string; plan: Plan }[] = []
  try {
    for (const action of actions)
      plans.push({ kind: action.kind, ...(await planOf(session, await requestOf(session, action))) })
    return { ...outcome, plans }
  } catch (error) {
    session.signal.throwIfAborted()
    return { ...outcome, plans, error: reportOf(error) }
  }
}

async function ask(session: Session, toDo: readonly Outcome[]): Promise<void> {
  const lost = toDo.filter(({ actions }) => actions.some(({ kind }) => kind === 'reimage'))
  const warning =
    lost.length === 0
      ? ''
      : ` The root disks of ${lost.map(({ vm }) => vm).join(', ')} are made anew: what they hold is lost.`
  await confirm(session, {
    text: `Do this to ${toDo.length} ${toDo.length === 1 ? 'VM' : 'VMs'}?${warning}`,
    leftAlone: 'Every VM'
  })
}

/** In order; what fails ends the VM's turn, and nobody else's. */
async function carryOut(session: Session, outcome: Outcome): Promise<Outcome> {
  const operations: Outcome['operations'][number][] = []
  const ended: OperationView[] = []
  try {
    for (const action of outcome.actions) {
      const request = { ...(await requestOf(session, action)), signal: session.signal }
      const { operation } = await session.client.ask(request, 'OperationReply')
      operations.push({ kind: action.kind, id: operation.id })
      ended.push(await untilDone(session, operation, { lines: true }))
    }
    return { ...outcome, operations, remarks: laterRemarks(outcome.vm, ended) }
  } catch (error) {
    session.signal.throwIfAborted()
    const report = reportOf(error)
    session.cli.note(`${outcome.vm}: ${report.code}: ${report.message}`)
    return { ...outcome, operations, remarks: laterRemarks(outcome.vm, ended), error: report }
  }
}

async function requestOf(session: Session, { kind, method, path, body }: Action) {
  if (kind !== 'create') return { method, path, ...(body !== undefined && { body }) }
  return { method, path, body: await sealSeed(body as Parameters<typeof sealSeed>[0], session) }
}

function reportOf(error: unknown): ErrorReport {
  return asHostletError(error).toReport()
}

/** What programs are shown: without the requests, which may hold user data. */
function shown({ actions, ...outcome }: Outcome) {
  return { ...outcome, actions: actions.map(({ kind }) => kind) }
}

/** Results in the order of the items; at most so many at once. */
async function each<Item, Result>(
  items: readonly Item[],
  atOnceMax: number,
  work: (item: Item) => Promise<Result>
): Promise<Result[]> {
  const results = new Map<number, Result>()
  const waiting = items.entries()
  const worker = async () => {
    for (const [at, item] of waiting) results.set(at, await work(item))
  }
  await Promise.all(Array.from({ length: Math.min(atOnceMax, items.length) }, worker))
  return items.map((_, at) => {
    const result = results.get(at)
    if (result === undefined) throw new HostletError('E_INTERNAL', 'a VM was left out')
    return result
  })
}
