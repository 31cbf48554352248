// hostlet approve OPERATION: shows a command as it is signed, asks, and hands in another signature under it.

import { HostletError } from '../../errors.ts'
import type { ApprovalView } from '../../protocol/api.ts'
import { approvalLifeMsMax } from '../../protocol/approval.ts'
import { apiPath } from '../api-client.ts'
import { checkApproverName, parseApproverKey, signApproval } from '../approver-key.ts'
import { clientCommand, examples, type Session } from '../client-command.ts'
import { commandFields, type ReadCommand, readCommand, sentenceOf } from '../command-text.ts'
import { asks, confirm } from '../confirm.ts'
import type { Define } from '../define.ts'
import { formatTime, parseDuration } from '../quantities.ts'
import { readText } from '../read-text.ts'
import { renderFields } from '../table.ts'

interface Options {
  readonly key?: string
  readonly name?: string
  readonly for?: string
  readonly yes?: boolean
}

export const define: Define = (command, cli) => {
  command
    .argument('<operation>', 'id of the operation')
    .option('--key <file>', 'private key of the approver; without it the command is only shown')
    .option('--name <name>', 'as the policy of the host names the approver, where the key does not say it')
    .option('--for <time>', 'how long the approval is good, such as 15m; as long as the command by default')
    .option('-y, --yes', 'do not ask')
  command.addHelpText(
    'after',
    '\nWhat is shown is read out of the very bytes that are signed: an approval fits that command and no other.'
  )
  examples(command, 'hostlet approve ID', 'hostlet approve ID --key alice.jwk')
  clientCommand<Options, readonly [string]>(command, cli, async (session, { options, arguments: [id] }) => {
    const path = apiPath('operations', id, 'command')
    const { client, signal } = session
    const {
      command: jws,
      operation,
      approvals
    } = await client.ask({ method: 'GET', path, signal }, 'SignedCommandReply')
    if (jws === undefined)
      throw new HostletError('E_CONFLICT', `operation ${id} has ended: it is ${operation.state}.`)
    const read = readCommand(jws)
    mustBe(id, read)
    if (options.key === undefined) return showOnly(session, read, approvals)
    const key = await parseApproverKey(readText(options.key, 'key'), options.key)
    const approver = nameOf(options, key.approver)
    await ask(session, read, options)
    const claims = claimsOf(read, { approver, now: cli.clock.now(), lifeMs: options.for })
    const body = { approval: await signApproval(claims, key) }
    const request = { method: 'POST', path: apiPath('operations', id, 'approvals'), body, signal } as const
    const answer = await client.ask(request, 'SignedCommandReply')
    cli.show(answer, () => [
      `Approved as ${approver} until ${formatTime(claims.expiresAt)}. The host is asked again now: hostlet op wait ${id}`
    ])
  })
}

function claimsOf(
  { claims: { id, verb, audience, subject, expiresAt }, digest }: ReadCommand,
  { approver, now, lifeMs }: { approver: string; now: number; lifeMs: string | undefined }
) {
  const life = Math.min(lifeMs === undefined ? approvalLifeMsMax : parseDuration(lifeMs), approvalLifeMsMax)
  return {
    ...{ command: id, digest, host: audience, verb },
    ...(subject !== undefined && { vm: subject.vm }),
    approver,
    issuedAt: now,
    expiresAt: Math.min(expiresAt, now + life)
  }
}

function mustBe(id: string, { claims }: ReadCommand): void {
  if (claims.id !== id)
    throw new HostletError(
      'E_PROTOCOL',
      `the scheduler answered with operation ${claims.id} instead of ${id}. Approve nothing.`
    )
}

function nameOf({ name }: Options, ofKey: string | undefined): string {
  const found = name ?? ofKey
  if (found === undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      'the key names no approver: say with --name how the policy of the host names you.'
    )
  return checkApproverName(found)
}

function showOnly({ cli }: Session, read: ReadCommand, approvals: readonly ApprovalView[]): void {
  const by = approvals.map(({ approver, receivedAt }) => `${approver}, ${formatTime(receivedAt)}`).join('; ')
  cli.show({ ...read, approvals }, () => [
    ...renderFields(
      [...commandFields(read, cli.clock.now()), ['approved by', by === '' ? 'nobody' : by]],
      cli.colour
    ),
    'Nothing was signed. Approve it with: --key FILE'
  ])
}

/** Nobody signs what nobody saw: without a terminal it takes --yes. */
async function ask(session: Session, read: ReadCommand, options: Options): Promise<void> {
  const { cli } = session
  cli.note(...renderFields(commandFields(read, cli.clock.now()), cli.colour))
  if (options.yes === true) return
  if (!asks(session, options))
    throw new HostletError(
      'E_BAD_REQUEST',
      'this is no terminal to ask on, and nothing was signed: give --yes once you have seen what it does.'
    )
  await confirm(session, {
    text: `Approve that this ${sentenceOf(read.claims)}?`,
    leftAlone: `operation ${read.claims.id}`
  })
}
