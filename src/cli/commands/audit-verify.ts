// hostlet audit verify: whether this host's audit trail is whole, and where it is not.

import { trailDirectory } from '../../agent/trail/segments.ts'
import type { TrailReport } from '../../agent/trail/verify-trail.ts'
import type { Link } from '../../lib/chain.ts'
import type { HostAudit } from '../../protocol/api.ts'
import { apiPath } from '../api-client.ts'
import { type AuditOptions, auditOptions, schedulerOf, stateDirectoryOf } from '../audit/source.ts'
import { type CallsReport, verifyCalls } from '../audit/verify-calls.ts'
import type { Cli } from '../cli.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { doctorExitCode } from '../exit-codes.ts'
import { paint, plain } from '../table.ts'

interface Verified {
  readonly host: string | undefined
  /** Undefined with --scheduler on what is no host. */
  readonly trail: TrailReport | undefined
  /** With --scheduler: what it holds of this trail, and its own audit. */
  readonly scheduler: (Pick<HostAudit, 'fault'> & { readonly calls: CallsReport }) | undefined
}

export const define: Define = (command, cli) => {
  auditOptions(command, 'compare with what the scheduler has signed for, and check its own audit too')
  examples(
    command,
    'hostlet audit verify                 on a host, as root or as the agent’s user',
    'hostlet audit verify --scheduler https://sched-1:7443 --api-key-file admin.key'
  )
  command.addHelpText('after', `\nEnds with ${doctorExitCode} when a trail is not whole.`)
  command.action(async (options: AuditOptions) => {
    cli.format = options.output
    const verified = await verify(cli, options)
    cli.show(verified, () => lines(verified, cli))
    const { trail, scheduler } = verified
    const isWhole = trail?.fault === undefined && scheduler?.fault === undefined
    if (!isWhole || scheduler?.calls.fault !== undefined) cli.exitStatus = doctorExitCode
  })
}

async function verify(cli: Cli, options: AuditOptions): Promise<Verified> {
  const stateDirectory = await stateDirectoryOf(options)
  const identity = await identityOf(stateDirectory)
  const { verifyTrail } = await import('../../agent/trail/verify-trail.ts')
  const reading = {
    directory: trailDirectory(stateDirectory),
    keys: identity?.commandKeys ?? [],
    hostId: identity?.hostId
  }
  const host = identity?.hostId
  if (options.scheduler === undefined)
    return { host, trail: await verifyTrail(reading), scheduler: undefined }
  using client = await schedulerOf(cli, options)
  return await cli.interruptible(async (signal) => {
    if (host === undefined) {
      cli.note(`This is no host of a fleet (${stateDirectory}): only the audit of the scheduler is checked.`)
      return { host, trail: undefined, scheduler: { calls: await verifyCalls(client, [], signal) } }
    }
    // Asked first: what it signs for while the trail is read need not be in what was read.
    const path = apiPath('hosts', host, 'audit')
    const { heads, fault } = await client.ask({ method: 'GET', path, signal }, 'HostAudit')
    const trail = await verifyTrail({ ...reading, held: heads as readonly Link[] })
    const calls = await verifyCalls(client, trail.witnessed, signal)
    return { host, trail, scheduler: { calls, ...(fault && { fault }) } }
  })
}

/** A host that has lost its identity can still show its trail: the keys that it trusted stand in there. */
async function identityOf(stateDirectory: string) {
  const { isEnrolled, loadIdentity } = await import('../../agent/identity/identity.ts')
  return isEnrolled(stateDirectory) ? loadIdentity(stateDirectory) : undefined
}

type Word = (isWhole: boolean) => string

function lines({ host, trail, scheduler }: Verified, cli: Cli): string[] {
  const word: Word = (isWhole) => {
    const text = isWhole ? 'whole' : 'NOT WHOLE'
    return cli.colour ? paint(isWhole ? 'green' : 'red', text) : text
  }
  return [
    ...(trail === undefined ? [] : trailLines(trail, host, word)),
    ...(trail === undefined || scheduler === undefined ? [] : heldLines(scheduler, trail, word)),
    ...(scheduler === undefined ? [] : callLines(scheduler.calls, word))
  ]
}

function trailLines(trail: TrailReport, host: string | undefined, word: Word): string[] {
  const { entries, files, receipts, receipted, torn, strangers, waiting, pruned, fault } = trail
  return [
    `Audit trail of ${host ?? 'this host'}: ${word(fault === undefined)}`,
    ...(fault === undefined
      ? []
      : [
          `  ${fault.kind}: ${fault.file}, line ${fault.line}, byte ${fault.offset}`,
          `  ${plain(fault.message)}`,
          `  The ${entries} entries before it are as they were written.`
        ]),
    ...(pruned > 0 ? [`  the oldest ${pruned} entries are no longer kept, as it says itself`] : []),
    `  ${entries} entries in ${files} files; ${receipts} receipts, the last for entry ${receipted}`,
    ...(fault === undefined && receipted < entries
      ? [
          `  ${entries - receipted} entries since then are not countersigned: only their own chain vouches for them`
        ]
      : []),
    ...(torn.length > 0 ? [`  ${torn.length} ends that a crash cut lie beside it: ${torn.join(', ')}`] : []),
    ...(waiting > 0 ? [`  ${waiting} actions of the command line wait to be taken in by the agent`] : []),
    ...(strangers.length > 0 ? [`  not ours, and not looked at: ${plain(strangers.join(', '))}`] : [])
  ]
}

function heldLines({ fault }: Pick<HostAudit, 'fault'>, { agreed }: TrailReport, word: Word): string[] {
  return [
    `What the scheduler holds of it: ${word(fault === undefined)}`,
    fault === undefined ? `  it agrees in ${agreed} heads` : `  ${plain(fault.message)}`
  ]
}

function callLines({ entries, witnessed, fault }: CallsReport, word: Word): string[] {
  return [
    `Audit of the scheduler: ${word(fault === undefined)}`,
    ...(fault === undefined ? [] : [`  ${fault.kind}: entry ${fault.seq}`, `  ${fault.message}`]),
    `  ${entries} entries, ${witnessed} of them witnessed by receipts of this host`
  ]
}
