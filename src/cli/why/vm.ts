// Why a VM is as it is: off and by whom, not ready, drifted, kept, last known; and what keeps it so.

import { formatTime } from '../quantities.ts'
import type { Finding, HostFacts, LastEvent, OperationFacts, VmFacts, Why } from './facts.ts'
import { hostTroubles } from './host.ts'
import { explainOperation } from './operation.ts'

export interface VmContext {
  readonly now: number
  readonly host: HostFacts
  /** Its operations, the newest first, those that ended too. */
  readonly operations: readonly OperationFacts[]
  /** Operations that have what its own wait for. */
  readonly holders: readonly OperationFacts[]
  readonly event?: LastEvent | undefined
  /** Why it could not be started after the boot of the host. */
  readonly notStarted?: string | undefined
}

const openStates: ReadonlySet<OperationFacts['state']> = new Set([
  'waiting',
  'sent',
  'queued',
  'running',
  'undoing'
])
/** Conditions of a host that are about all VMs on it. */
const aboutAll: ReadonlySet<string> = new Set([
  'hypervisor-away',
  'pool-full',
  'pool-silent',
  'journal',
  'firewall',
  'policy',
  'certificate'
])
const offVerbs: ReadonlySet<string> = new Set([
  'vm.stop',
  'vm.teardown',
  'vm.reimage',
  'vm.restore',
  'vm.rekey',
  'vm.resize'
])
const offStates: ReadonlySet<string> = new Set(['stopped', 'crashed'])

export function explainVm(vm: VmFacts, context: VmContext): Why {
  const open = context.operations
    .filter(({ state }) => openStates.has(state))
    .map((each) => explainOpen(each, context))
  const { says, next = [], findings = [] } = stateOf(vm, context)
  const about = conditionsAbout(vm.name, context)
  const drift = driftFindings(vm)
  const steps = [...awayNext(vm, context), ...open.flatMap((each) => each.next), ...next, ...drift.next]
  const last = steps.length === 0 && about.length > 0 ? [`hostlet why ${context.host.id} --host`] : steps
  return {
    kind: 'vm',
    name: vm.name,
    state: vm.fresh ? vm.state : `${vm.state}?`,
    says,
    findings: [
      ...open.flatMap(({ says: text, since, findings: more }) => [
        { text, ...(since !== undefined && { since }) },
        ...more
      ]),
      ...findings,
      ...drift.findings,
      ...healthFindings(vm),
      ...awayFindings(vm, context),
      ...about
    ],
    next: [...new Set(last)]
  }
}

function explainOpen(operation: OperationFacts, { now, holders }: VmContext): Why {
  return explainOperation(operation, { now, holder: holders.find(({ id }) => id === operation.wait?.holder) })
}

interface Told {
  readonly says: string
  readonly findings?: readonly Finding[]
  readonly next?: readonly string[]
}

function stateOf(vm: VmFacts, context: VmContext): Told {
  const { name, state, wanted, reason, retainedUntil } = vm
  if (retainedUntil !== undefined)
    return {
      says: `VM ${name} was torn down and is kept, off, until ${formatTime(retainedUntil)}`,
      findings: endedBy(context, ['vm.teardown']),
      next: [`hostlet vm undelete ${name}   has it back`]
    }
  if (state === 'gone') return goneTold(vm, context)
  if (state === 'pending' || state === 'missing')
    return {
      says: `VM ${name} is ${state}: ${reason}`,
      findings: lastFailure(context),
      next: pendingNext(vm, context)
    }
  if (state === 'running') return runningTold(vm, context)
  if (!offStates.has(state)) return stuckTold(vm)
  return wanted === 'running' ? offTold(vm, context) : stoppedTold(vm, context)
}

/** A VM that nobody has, whose operations are remembered. */
function goneTold({ name }: VmFacts, context: VmContext): Told {
  const failed = lastFailure(context)
  const removed = endedBy(context, ['vm.teardown', 'vm.erase'])
  return {
    says: `there is no VM ${name}${removed.length > 0 && failed.length === 0 ? ' any more' : ''}`,
    findings: [...failed, ...removed],
    next: [
      ...(failed.length > 0 ? ['do as the error says, then ask again'] : []),
      `hostlet op ls --vm ${name}   what was done with it`
    ]
  }
}

/** What stands for the VM itself where there is none. */
export function goneVm(name: string): VmFacts {
  return { name, state: 'gone', reason: 'there is none', wanted: 'stopped', fresh: true }
}

function pendingNext({ name, state }: VmFacts, { host }: VmContext): string[] {
  if (state === 'pending') return [`hostlet op ls --vm ${name}`, `hostlet why ${host.id} --host`]
  return [`hostlet host refresh ${host.id}`, `hostlet vm rm ${name}   if it is gone for good`]
}

function runningTold({ name, wanted, health = [], startedAt }: VmFacts, context: VmContext): Told {
  const up = startedAt === undefined ? '' : ` since ${formatTime(startedAt)}`
  if (wanted === 'stopped')
    return {
      says: `VM ${name} runs${up}, and is wanted off: it is not ready yet, or was started past hostlet`,
      findings: lastFailure(context),
      next: [`hostlet vm start ${name}   keeps it on`, `hostlet vm stop ${name}   stops it`]
    }
  const ill = health.filter(({ state }) => state === 'unhealthy')
  if (ill.length === 0) return { says: `VM ${name} runs as wanted${up}` }
  const names = ill.map((probe) => probe.name).join(', ')
  return {
    says: `VM ${name} runs${up}, and its service ${names} does not answer`,
    next: [`look inside the VM: nobody but its owner can`, `hostlet events --vm ${name}`]
  }
}

/** Neither on nor off. */
function stuckTold({ name, state, reason }: VmFacts): Told {
  const next: Readonly<Record<string, readonly string[]>> = {
    paused: [
      'look at the room in the pool and at the host’s kernel log: QEMU pauses a VM whose disk cannot be written',
      `hostlet vm start ${name}   once that is mended`
    ],
    stopping: ['wait: its guest shuts down', `hostlet vm stop ${name} --force   cuts its power`],
    suspended: [`hostlet vm start ${name}   wakes it`]
  }
  return {
    says: `VM ${name} is ${state} (${reason})`,
    next: next[state] ?? [`hostlet vm refresh ${name}`, 'hostlet doctor   on the host']
  }
}

/** It should run. */
function offTold({ name, state, reason }: VmFacts, context: VmContext): Told {
  const { notStarted, event } = context
  const next = [`hostlet vm start ${name}`, `hostlet logs ${name}   on the host`]
  if (notStarted !== undefined)
    return {
      says: `VM ${name} should run, and could not be started after the boot of its host`,
      findings: [{ text: notStarted, severity: 'critical' }],
      next: ['do as the error says: a start then brings it up', ...next]
    }
  const how =
    state === 'crashed'
      ? 'its QEMU crashed or was killed'
      : reason === 'shutdown'
        ? 'its guest shut itself down, for no command stopped it'
        : `it went off (${reason}), and no command stopped it`
  const at = event === undefined ? [] : [{ text: `${event.kind}: ${event.detail}`, since: event.at }]
  return {
    says: `VM ${name} should run and is off: ${how}`,
    findings: [...at, ...lastFailure(context)],
    next
  }
}

function stoppedTold({ name, reason }: VmFacts, context: VmContext): Told {
  const failed = lastFailure(context)
  const ended = endedBy(context, [...offVerbs])
  return {
    says: `VM ${name} is off, as wanted${reason === 'unknown' ? '' : ` (${reason})`}`,
    findings: failed.length > 0 ? failed : ended,
    next: [
      `hostlet vm start ${name}`,
      ...(ended.length > 0 ? ['who asked: hostlet audit ls   on the host, or with --scheduler'] : [])
    ]
  }
}

/** The newest operation, where it failed. */
function lastFailure({ operations }: VmContext): Finding[] {
  const last = operations.find(({ state }) => !openStates.has(state))
  if (last === undefined || (last.state !== 'failed' && last.state !== 'expired')) return []
  const { verb, id, error, finishedAt } = last
  const why = error === undefined ? '' : `: ${error.code}: ${error.message}`
  return [
    {
      text: `${verb} (${id}) ${last.state}${why}`,
      severity: 'critical',
      ...(finishedAt && { since: finishedAt })
    }
  ]
}

function endedBy({ operations }: VmContext, verbs: readonly string[]): Finding[] {
  const found = operations.find(({ state, verb }) => state === 'done' && verbs.includes(verb))
  if (found === undefined) return []
  const { verb, id, finishedAt } = found
  return [{ text: `${verb} (${id}) did that`, ...(finishedAt && { since: finishedAt }) }]
}

function driftFindings({ name, drift = [] }: VmFacts): { findings: Finding[]; next: string[] } {
  const findings = drift.map(({ id, recorded, actual, severity, since, next }) => ({
    text: `not as its records say: ${id} is ${actual}, recorded ${recorded}. ${next}`,
    severity,
    since
  }))
  return {
    findings,
    next: drift.some(({ repair }) => repair === 'ask') ? [`hostlet vm repair ${name} --dry-run`] : []
  }
}

function healthFindings({ health = [] }: VmFacts): Finding[] {
  return health
    .filter(({ state }) => state === 'unhealthy')
    .map(({ name, since }) => ({ text: `service ${name} is unhealthy`, severity: 'warning', since }))
}

function awayFindings({ fresh }: VmFacts, { host }: VmContext): Finding[] {
  if (fresh) return []
  if (host.state === 'connected')
    return [{ text: `this is the last known: libvirt of host ${host.id} is away`, severity: 'warning' }]
  const since = host.since === undefined ? {} : { since: host.since }
  const reason = host.reason ?? 'the reason is not known'
  return [
    {
      text: `this is the last known: host ${host.id} is ${host.state}: ${reason}`,
      severity: 'warning',
      ...since
    }
  ]
}

/** What stands before anything that one may ask of the VM. */
function awayNext({ fresh }: VmFacts, { host }: VmContext): string[] {
  if (fresh) return []
  return host.state === 'connected'
    ? ['systemctl status libvirtd   on the host']
    : [`hostlet why ${host.id} --host`]
}

/** Conditions of its host that name it, or that concern every VM. */
function conditionsAbout(name: string, { host, now }: VmContext): Finding[] {
  const named = new RegExp(`(^|[^a-z0-9-])${name}($|[^a-z0-9-])`)
  const conditions = host.conditions.filter(({ id, message }) => aboutAll.has(id) || named.test(message))
  return hostTroubles({ ...host, conditions, drainingSince: undefined }, now)
}
