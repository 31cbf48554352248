// What each message of an agent does: one entry a type. Handlers throw HostletError; the connection answers with `problem`.

import { asHostletError, type ErrorReport, HostletError } from '../../errors.ts'
import type { Trust } from '../../lib/certified-signature.ts'
import type { Logger } from '../../lib/log.ts'
import type { CommandResult } from '../../protocol/command.ts'
import type { AgentMessage, AgentMessageOf, SchedulerMessage } from '../../protocol/messages.ts'
import type { Witness } from '../audit.ts'
import { backupFact } from '../backup-facts.ts'
import { consequenceOfEnd, toldBy } from '../consequences.ts'
import { learnOfErasure, learnOfTeardown } from '../erasures.ts'
import { afterRefusal } from '../refusals.ts'
import type { CommandRecord, Store } from '../store/store.ts'
import { noteHead } from './audit-heads.ts'
import { giveKeys, keepKeys, removeKeys } from './disk-keys.ts'
import type { TrustLink } from './trust-link.ts'

/** A timer may fire a little before the clock on the wall gets there. */
const timerSlackMs = 20

/** What a handler may use of its connection. */
export interface Session {
  readonly host: string
  readonly store: Store
  readonly log: Logger
  /** Whose signatures are believed. */
  readonly trust: Trust
  readonly witness: Witness
  readonly trustLink: Pick<TrustLink, 'acknowledged' | 'remind'>
  /** Id of this connection, as couriers have it. */
  readonly connection: string
  /** Which run of the agent is at the other end. */
  instance(): string
  now(): number
  send(message: SchedulerMessage): Promise<boolean>
  /** Whether the agent is to be told the time again; true once in `clockIntervalMs`. */
  isClockDue(): boolean
  /** Looks for commands to deliver. */
  wake(): void
  wakeAfter(ms: number): void
}

type Handlers = {
  readonly [Type in Exclude<AgentMessage['type'], 'hello'>]: (
    message: AgentMessageOf<Type>,
    session: Session
  ) => Promise<void>
}

const handlers: Handlers = {
  heartbeat: async (message, { store, host, now, instance, wake, send, isClockDue, trustLink }) => {
    const at = now()
    await store.hosts.heartbeat(host, message, { at, instance: instance() })
    if (isClockDue()) await send({ type: 'clock', heartbeatSentAt: message.sentAt, sentAt: at })
    await trustLink.remind()
    wake()
  },

  inventory: async (message, { store, host, now, log }) => {
    if (message.facts.hostId !== host)
      throw new HostletError('E_AUTH', `the inventory is of host ${message.facts.hostId}, not of ${host}`)
    const { adopted, conflicting } = await store.hosts.inventory(host, message, now())
    if (adopted.length > 0) log.info({ vms: adopted }, 'VMs found on the host were taken in')
    if (conflicting.length > 0)
      log.warn({ vms: conflicting }, 'VMs have the name or UUID of another host and are left alone')
  },

  event: (message, { store, host, now }) => store.events.add(host, message, now()),

  metrics: (message, { store, host }) => store.metrics.add(host, message.samples),

  ack: async ({ command, repeated }, { store, host, now, log, instance, wake }) => {
    const taken = { at: now(), instance: instance() }
    if (await store.commands.acknowledged(command, host, taken))
      log.info({ command, repeated }, 'command taken')
    else if (!repeated) log.warn({ command }, 'acknowledgement of a command that is not open')
    wake()
  },

  refusal: async ({ command, error }, session) => {
    const { store, host, log, wake } = session
    const record = command === undefined ? undefined : await store.commands.find(command)
    if (command === undefined)
      log.warn({ code: error.code, reason: error.message }, 'a command was refused unread')
    else if (record?.host !== host) log.warn({ command }, 'refusal of a command that is not open')
    else await refused(record, error, session)
    wake()
  },

  progress: async (message, { store, host }) => {
    await store.commands.progress(host, message)
  },

  result: async ({ result }, session) => {
    const { store, host, now, log, send, wake } = session
    const record = await store.commands.find(result.command)
    // Also what this machine did under an earlier identity: it would send that again for ever.
    if (record?.host !== host)
      log.warn({ command: result.command }, 'result of a command that this host does not have')
    else {
      await learnOfBackups(record, result, session)
      await learnOfTeardown(record, result, session)
      const consequence = consequenceOfEnd(record.verb, result.outcome, result.value)
      const fields = { command: record.id, verb: record.verb, vm: record.vm, outcome: result.outcome }
      if (await store.commands.finished(host, result, now(), consequence, toldBy(record, result)))
        log.info(fields, 'command ended')
      else log.debug(fields, 'result came again')
    }
    // Stored, or nothing to store: either way the host may forget it.
    await send({ type: 'result-ack', command: result.command })
    wake()
  },

  backups: async ({ reports }, { store, host, now, log, send }) => {
    for (const report of reports)
      if (await store.backups.learn(host, { kind: 'run', report }, now()))
        log.info(
          { command: report.id, vm: report.vm, target: report.target, code: report.error?.code },
          'backup reported'
        )
      else
        log.warn(
          { command: report.id, vm: report.vm },
          'report of a backup of a VM of another host is left aside'
        )
    await send({ type: 'backups-ack', operations: reports.map(({ id }) => id) })
  },

  erasures: async ({ certificates }, session) => {
    for (const { certificate } of certificates) await learnOfErasure(certificate, session)
    // Stored, or nothing that will ever be stored: either way the host may forget it.
    await session.send({ type: 'erasures-ack', certificates: certificates.map(({ id }) => id) })
  },
  'disk-keys': keepKeys,
  'disk-keys-gone': removeKeys,
  'disk-keys-request': giveKeys,
  'audit-head': noteHead,
  'trust-ack': (message, { trustLink }) => trustLink.acknowledged(message),

  problem: async ({ error }, { log }) => {
    log.warn({ error }, 'the host could not use a message')
  }
}

export async function handleMessage(message: AgentMessage, session: Session): Promise<void> {
  if (message.type === 'hello')
    throw new HostletError('E_BAD_REQUEST', 'hello is said once, as the first message of a connection')
  const handle = handlers[message.type] as (message: AgentMessage, session: Session) => Promise<void>
  await handle(message, session)
}

/** Before the operation ends here: its command, which says what the result is about, is kept no longer than that. */
async function learnOfBackups(record: CommandRecord, result: CommandResult, session: Session): Promise<void> {
  const { store, host, now, log } = session
  try {
    const fact = backupFact(record, result)
    if (fact !== undefined && !(await store.backups.learn(host, fact, now())))
      log.warn({ command: record.id, vm: record.vm }, 'result about backups of another host is left aside')
  } catch (thrown) {
    const error = asHostletError(thrown)
    // The operation has ended whatever its result says of backups.
    if (error.code !== 'E_BAD_REQUEST') throw error
    log.warn(
      { command: record.id, reason: error.message },
      'result tells of backups in another form than expected'
    )
  }
}

async function refused(record: CommandRecord, error: ErrorReport, session: Session): Promise<void> {
  const { store, now, log, wakeAfter } = session
  const fields = { command: record.id, code: error.code, reason: error.message }
  const decision = afterRefusal(record, error)
  if (decision.kind === 'none') return log.warn(fields, 'refusal that changes nothing')
  if (decision.kind === 'hold') {
    if (await store.commands.held(record, error, session.connection))
      log.info(fields, 'command waits for an approval')
    return
  }
  if (decision.kind === 'end') {
    if (await store.commands.failed(record, decision.error, now(), decision.consequence))
      log.warn(fields, 'command refused')
    return
  }
  const { delayMs } = decision
  if (!(await store.commands.postponed(record, error, now() + delayMs))) return
  log.info({ ...fields, delayMs }, 'command refused for now')
  wakeAfter(delayMs + timerSlackMs)
}
