// What each message of an agent does: one entry a type. Handlers throw HostletError; the connection answers with `problem`.

import { HostletError } from '../../errors.ts'
import type { Logger } from '../../lib/log.ts'
import type { AgentMessage, AgentMessageOf, SchedulerMessage } from '../../protocol/messages.ts'
import { consequenceOfEnd, vmInResult } from '../consequences.ts'
import type { Store } from '../store/store.ts'

/** What a handler may use of its connection. */
export interface Session {
  readonly host: string
  readonly store: Store
  readonly log: Logger
  now(): number
  send(message: SchedulerMessage): Promise<boolean>
  /** Looks for commands to deliver. */
  wake(): void
}

type Handlers = {
  readonly [Type in Exclude<AgentMessage['type'], 'hello'>]: (
    message: AgentMessageOf<Type>,
    session: Session
  ) => Promise<void>
}

const handlers: Handlers = {
  heartbeat: async (message, { store, host, now, wake }) => {
    await store.hosts.heartbeat(host, message, now())
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

  ack: async ({ command, repeated }, { store, host, now, log }) => {
    if (await store.commands.acknowledged(command, host, now())) log.info({ command }, 'command taken')
    else if (!repeated) log.warn({ command }, 'acknowledgement of a command that is not open')
  },

  refusal: async ({ command, error }, { store, host, now, log }) => {
    if (command === undefined) {
      log.warn({ error }, 'the host refused a command that it could not read')
      return
    }
    const record = await store.commands.find(command)
    const consequence = consequenceOfEnd(record?.verb ?? '', 'failed')
    if (await store.commands.refused(command, host, error, now(), consequence))
      log.warn({ command, code: error.code }, 'command refused')
  },

  progress: async (message, { store, host }) => {
    await store.commands.progress(host, message)
  },

  result: async ({ result }, session) => {
    const { store, host, now, log, send } = session
    const record = await store.commands.find(result.command)
    if (record !== undefined && record.host !== host)
      throw new HostletError('E_AUTH', `command ${result.command} is not for host ${host}`)
    if (record === undefined) log.warn({ command: result.command }, 'result of a command that is not known')
    else {
      const consequence = consequenceOfEnd(record.verb, result.outcome)
      await store.commands.finished(host, result, now(), consequence, vmInResult(record, result))
      log.info(
        { command: record.id, verb: record.verb, vm: record.vm, outcome: result.outcome },
        'command ended'
      )
    }
    // Stored, or nothing to store: either way the host may forget it.
    await send({ type: 'result-ack', command: result.command })
  },

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
