// The facts of an explanation as the agent of this host tells them.

import { HostletError } from '../../errors.ts'
import type { LocalOperation, LocalStatus } from '../../protocol/local.ts'
import type { AgentSocket } from '../local/agent-socket.ts'
import { schedulerText } from '../local/status-text.ts'
import type { Finding, HostFacts, OperationFacts, Why } from './facts.ts'
import { explainHost } from './host.ts'
import { explainOperation } from './operation.ts'
import { type Subject, uuidPattern } from './subject.ts'
import { explainVm, goneVm } from './vm.ts'

/** Throws E_NOT_FOUND for what this host does not know. */
export async function whyOfAgent(agent: AgentSocket, subject: Subject, signal: AbortSignal): Promise<Why> {
  const status = await agent.ask('/v1/status', 'LocalStatus', signal)
  const { name, isHost } = subject
  if (name === undefined || isHost || name === status.host) return whyHost(status, name)
  if (uuidPattern.test(name) && !status.vms.some(({ uuid }) => uuid === name))
    return await whyOperation(agent, status, name, signal)
  return await whyVm(agent, status, name, signal)
}

function whyHost(status: LocalStatus, name = status.host): Why {
  if (name !== status.host)
    throw new HostletError(
      'E_NOT_FOUND',
      `this is host ${status.host}, and its agent knows nothing of "${name}". Ask the scheduler with --scheduler.`
    )
  const why = explainHost(hostFacts(status), {
    now: status.now,
    operations: status.operations.map((each) => operationFacts(each, status.host))
  })
  return withScheduler(why, status)
}

/** To a host that is away from its scheduler no new command comes, and nothing else is different. */
function withScheduler(why: Why, status: LocalStatus): Why {
  if (status.scheduler.state === 'connected') return why
  const { since } = status.scheduler
  const finding: Finding = { text: `scheduler: ${schedulerText(status)}`, since, severity: 'warning' }
  const step = 'mend what keeps it from its scheduler: no new command comes until then'
  return {
    ...why,
    findings: [...why.findings, finding],
    next: why.kind === 'host' ? [step, ...why.next] : why.next
  }
}

async function whyOperation(
  agent: AgentSocket,
  status: LocalStatus,
  id: string,
  signal: AbortSignal
): Promise<Why> {
  const target = `/v1/operations?id=${encodeURIComponent(id)}`
  const [operation] = (await agent.ask(target, 'LocalOperations', signal)).operations
  if (operation === undefined)
    throw new HostletError('E_NOT_FOUND', `operation ${id} is not known on this host`)
  const holder = status.operations.find((each) => each.id === operation.wait?.holder)
  return explainOperation(operationFacts(operation, status.host), {
    now: status.now,
    holder: holder && operationFacts(holder, status.host)
  })
}

async function whyVm(
  agent: AgentSocket,
  status: LocalStatus,
  name: string,
  signal: AbortSignal
): Promise<Why> {
  const vm = status.vms.find((each) => each.name === name || each.uuid === name)
  const target = `/v1/operations?vm=${encodeURIComponent(vm?.name ?? name)}`
  const { operations } = await agent.ask(target, 'LocalOperations', signal)
  const facts = operations.map((each) => operationFacts(each, status.host))
  if (vm === undefined && facts.length === 0) throw unknownVm(status, name)
  const { host, now, notStarted } = status
  return withScheduler(
    explainVm(vm === undefined ? goneVm(name) : { ...vm, fresh: status.libvirt.state === 'connected' }, {
      now,
      host: hostFacts(status),
      operations: facts,
      holders: status.operations.map((each) => operationFacts(each, host)),
      notStarted: notStarted.find((failed) => failed.vm === vm?.name)?.reason
    }),
    status
  )
}

function unknownVm({ foreign, host, seenAt }: LocalStatus, name: string): HostletError {
  const domain = foreign.find((each) => each.name === name)
  if (domain !== undefined)
    return new HostletError(
      'E_NOT_FOUND',
      `domain ${name} on host ${host} is not hostlet's and never touched (${domain.reason}${domain.detail === undefined ? '' : `: ${domain.detail}`}). See docs/operate-inventory.md.`
    )
  const unseen =
    seenAt === undefined ? ' The agent has not seen its VMs yet: libvirt is away, or it just started.' : ''
  return new HostletError(
    'E_NOT_FOUND',
    `host ${host} knows nothing of "${name}".${unseen} Its VMs are listed by "hostlet status"; those of other hosts by the scheduler.`
  )
}

function hostFacts(status: LocalStatus): HostFacts {
  const { host, libvirt, drainingSince, conditions, certificate, foreign } = status
  return {
    id: host,
    // An agent that answers works, whoever it is connected to.
    state: 'connected',
    reason: undefined,
    libvirt: libvirt.state,
    ...(libvirt.reason !== undefined && { libvirtReason: libvirt.reason }),
    ...(drainingSince !== undefined && { drainingSince }),
    conditions,
    certificateExpiresAt: certificate.expiresAt,
    foreign
  }
}

const states: { readonly [State in LocalOperation['state']]: OperationFacts['state'] } = {
  waiting: 'queued',
  running: 'running',
  undoing: 'undoing',
  done: 'done',
  failed: 'failed'
}

function operationFacts(operation: LocalOperation, host: string): OperationFacts {
  const { acceptedAt, state, ...rest } = operation
  return { ...rest, host, state: states[state], since: acceptedAt }
}
