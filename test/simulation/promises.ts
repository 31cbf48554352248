// The promises of the architecture, each with its sentence, checked after every step of a world or at the moment in which it
// could be broken. The world ends with the first one that does not hold.

import { createHash } from 'node:crypto'
import type { DomainEvent, VmRecord } from '../../src/agent/host/hypervisor.ts'
import { checkDeadlineMs } from '../../src/agent/operations/admission.ts'
import type { Journal } from '../../src/agent/operations/journal.ts'
import { operationStatesEnded } from '../../src/protocol/api.ts'
import { type CommandClaims, type CommandResult, clockSkewMsMax } from '../../src/protocol/command.ts'
import type { AgentMessage } from '../../src/protocol/messages.ts'
import { sendBytesMax } from '../../src/scheduler/hub/outgoing.ts'
import type { CommandRecord } from '../../src/scheduler/store/store.ts'
import type { HostMachine } from './host-machine.ts'
import type { Cause } from './libvirtd.ts'
import type { Network } from './network.ts'
import type { SchedulerMachine } from './scheduler-machine.ts'
import { epochMs, type VirtualTime } from './virtual-time.ts'

export const sentences = {
  acknowledgedIsDurable:
    'What was acknowledged is durable: an acknowledged command is in the journal, whatever is killed.',
  acknowledgedEnds: 'An acknowledged command ends with a recorded result that reaches the scheduler.',
  takenIsRecorded:
    'What a command has done is done by a command that is in the journal, whatever loses power.',
  oneEffect: 'Each command takes effect once, whatever is retried or killed.',
  refusedHasNone: 'A command that was refused, or never taken, had no effect.',
  onlyTheSignedIsObeyed: 'Nothing that is unsigned, of another host, expired or repeated is obeyed.',
  onlyByCommand:
    'A VM is started, stopped, changed or removed by a command of its own, by its guest, or after a boot of its host.',
  effectsInOrder: 'The effects on a VM come in the order of the generations of their commands.',
  generationsGrow: "A VM's generation only grows.",
  oneAtATime: 'One operation at a time changes a VM.',
  resultsStay: 'A result is told once and never becomes another.',
  doneIsDone: 'What is told as done is done on the host; what failed cleanly left nothing.',
  nothingLeaks: 'When all is quiet there are no volumes, reservations, networks or seeds without a VM.',
  nothingIsShared: 'No address, MAC, user or volume is of two VMs.',
  viewsAgree: 'What the scheduler shows is what is on the hosts, once the network has healed.',
  boundsHold: 'Queues stay within their bounds.',
  accountedFor:
    "Every command that was taken and how it ended is in the host's audit trail, one whole chain that the scheduler countersigns.",
  noBug: 'Nothing ends with E_INTERNAL or an error without a code.',
  comesToRest: 'Once faults stop, everything comes to rest within a bounded time.'
} as const
export type PromiseName = keyof typeof sentences

export class BrokenPromise extends Error {
  readonly promise: PromiseName

  constructor(promise: PromiseName, text: string) {
    super(`${promise}: ${text}\n  promised: ${sentences[promise]}`)
    this.promise = promise
  }
}

/** What each verb may do to a machine. */
const effectsOf: Readonly<Record<string, readonly DomainEvent['kind'][]>> = {
  'vm.provision': ['defined', 'started', 'stopped', 'undefined'],
  'vm.start': ['started'],
  'vm.stop': ['stopped'],
  'vm.reboot': ['rebooted'],
  'vm.teardown': ['stopped', 'undefined'],
  'vm.resize': ['stopped', 'started', 'defined']
}

interface Issued {
  readonly claims: CommandClaims
  readonly jws: string
  readonly digest: string
}

interface Taken {
  readonly machine: HostMachine
  /** Which enrollment of the machine took it. */
  readonly hostId: string
  readonly at: number
}

interface Effect {
  readonly kind: DomainEvent['kind']
  readonly vm: string
  /** Times that something else had changed the VM by then. */
  readonly disturbances: number
}

export interface PromisesOptions {
  readonly time: VirtualTime
  readonly network: Network
  onBroken(error: BrokenPromise): void
}

export class Promises {
  /** Commands that the scheduler has signed. */
  readonly issued = new Map<string, Issued>()
  readonly effects = new Map<string, Effect[]>()
  readonly results = new Map<string, CommandResult>()
  readonly acknowledged = new Map<string, Taken>()
  readonly #options: PromisesOptions
  readonly #accepted = new Map<string, Taken>()
  readonly #changed = new Set<string>()
  readonly #states = new Map<string, CommandRecord>()
  readonly #touched = new Set<HostMachine>()
  readonly #records = new Map<HostMachine, readonly VmRecord[]>()
  readonly #generations = new Map<string, number>()
  readonly #lastEffect = new Map<string, number>()
  readonly #disturbances = new Map<string, number>()
  /** By command: how often its VM had been disturbed when it was taken. */
  readonly #calmAt = new Map<string, number>()

  constructor(options: PromisesOptions) {
    this.#options = options
  }

  get commands(): number {
    return this.issued.size
  }

  break(promise: PromiseName, text: string): void {
    this.#options.onBroken(new BrokenPromise(promise, text))
  }

  // What the parts of the world tell.

  signed(claims: CommandClaims, jws: string): void {
    const payload = Buffer.from(jws.split('.')[1] ?? '', 'base64url')
    this.issued.set(claims.id, { claims, jws, digest: createHash('sha256').update(payload).digest('hex') })
  }

  /** A command has entered a journal. */
  accepted(machine: HostMachine, id: string, digest: string): void {
    if (digest === 'local') return
    const issued = this.issued.get(id)
    const { hostId } = machine
    if (issued === undefined || issued.digest !== digest)
      return void this.break(
        'onlyTheSignedIsObeyed',
        `${hostId} took ${id}, which the scheduler never signed`
      )
    const { audience, issuedAt, expiresAt } = issued.claims
    if (audience !== hostId)
      this.break('onlyTheSignedIsObeyed', `${hostId} took ${id}, which is for ${audience}`)
    const now = epochMs + this.#options.time.elapsed + machine.skew.ms
    // A clock that is stepped between the look at it and the record is as good as one that is stepped after.
    const isSteady = this.#options.time.elapsed - machine.steppedAt > checkDeadlineMs
    if (isSteady && (now > expiresAt + clockSkewMsMax + checkDeadlineMs || now < issuedAt - clockSkewMsMax))
      this.break('onlyTheSignedIsObeyed', `${hostId} took ${id} out of its time`)
    const before = this.#accepted.get(id)
    if (before !== undefined && (machine.lostStateAt ?? -1) < before.at)
      this.break('oneEffect', `${hostId} took ${id} a second time`)
    this.#accepted.set(id, { machine, hostId, at: this.#options.time.elapsed })
    this.#calmAt.set(id, this.#disturbances.get(issued.claims.subject?.vm ?? '') ?? 0)
  }

  said(machine: HostMachine, message: AgentMessage): void {
    if (message.type === 'ack') this.#acknowledges(machine, message.command)
    if (message.type === 'result') this.#tells(machine, message.result)
  }

  /** An agent has opened its journal. */
  started(machine: HostMachine, journal: Journal): void {
    for (const [id, { machine: taker, at }] of this.acknowledged)
      if (taker === machine && (machine.lostStateAt ?? -1) < at && journal.find(id) === undefined)
        this.break(
          'acknowledgedIsDurable',
          `${machine.hostId} acknowledged ${id} and does not know it any more`
        )
    for (const [id, { machine: taker, at }] of this.#accepted)
      if (taker === machine && (machine.lostStateAt ?? -1) < at && journal.find(id) === undefined) {
        const [effect] = this.effects.get(id) ?? []
        if (effect !== undefined)
          this.break(
            'takenIsRecorded',
            `${effect.vm} was ${effect.kind} by ${id}, which ${machine.hostId} has lost`
          )
        // It may be offered again.
        this.#accepted.delete(id)
      }
  }

  twoAtOnce(machine: HostMachine, vm: string, ids: readonly string[]): void {
    this.break('oneAtATime', `${machine.name} carries out ${ids.join(' and ')} on ${vm} at once`)
  }

  /** The agent asks libvirt to change a machine. */
  call(machine: HostMachine, method: string, vm: string, cause: Cause): void {
    this.#touched.add(machine)
    // Shares of the processors are dealt out anew by the agent itself; no guest notices. What is not there is not harmed.
    if (cause.kind === 'unknown' && method !== 'reshape' && this.vmsOf(machine).includes(vm))
      this.break('onlyByCommand', `${machine.name} calls ${method} of ${vm} without a command`)
    if (cause.kind === 'command') this.#requireOwn(machine, method, vm, cause)
  }

  /** Something happened to a machine. */
  effect(machine: HostMachine, { kind, name, uuid, detail }: DomainEvent, cause: Cause): void {
    this.#touched.add(machine)
    if (cause.kind === 'guest' || cause.kind === 'boot') return void this.disturb(name)
    if (cause.kind === 'unknown' || cause.command === undefined)
      return void this.break('onlyByCommand', `${machine.name}: ${name} was ${kind} and nobody asked for it`)
    if (kind === 'defined' && detail === 'updated') return
    const { command, verb = '', generation = 0 } = cause
    if (effectsOf[verb]?.includes(kind) !== true)
      this.break('onlyByCommand', `${machine.name}: ${name} was ${kind} by ${verb} ${command}`)
    if (cause.uuid !== uuid)
      this.break(
        'onlyByCommand',
        `${machine.name}: ${name} (${uuid}) was ${kind} by ${command} of ${cause.uuid}`
      )
    const last = this.#lastEffect.get(uuid) ?? 0
    if (generation < last)
      this.break(
        'effectsInOrder',
        `${name} was ${kind} by generation ${generation} after ${last}: ${command}`
      )
    this.#lastEffect.set(uuid, Math.max(last, generation))
    this.#count(command, { kind, vm: name, disturbances: this.#disturbances.get(name) ?? 0 })
  }

  /** Something that is no command changed the VM. */
  disturb(vm: string): void {
    this.#disturbances.set(vm, (this.#disturbances.get(vm) ?? 0) + 1)
  }

  /** Whether its VM was changed by something else since the command was taken. */
  wasDisturbedSince({ id, vm = '' }: CommandRecord): boolean {
    return (this.#disturbances.get(vm) ?? 0) !== this.#calmAt.get(id)
  }

  hostBooted(machine: HostMachine): void {
    for (const vm of this.vmsOf(machine)) this.disturb(vm)
    this.#touched.add(machine)
  }

  /** As last seen. */
  vmsOf(machine: HostMachine): string[] {
    return (this.#records.get(machine) ?? []).map(({ specification }) => specification.name)
  }

  recordsOf(machine: HostMachine): readonly VmRecord[] {
    return this.#records.get(machine) ?? []
  }

  commandChanged(id: string): void {
    this.#changed.add(id)
  }

  internal(machine: HostMachine, message: string, error: Error): void {
    this.break(
      'noBug',
      `${machine.name} logs "${message}": ${error.message} ${String(error.cause ?? '')} ${error.stack}`
    )
  }

  takenForTwo(host: string): void {
    this.break('noBug', `${host} is one machine, and the scheduler takes it for two`)
  }

  schedulerError(message: string, error: unknown): void {
    this.break('noBug', `the scheduler logs "${message}": ${error instanceof Error ? error.stack : error}`)
  }

  // What is looked at after each step.

  async afterStep(scheduler: SchedulerMachine): Promise<void> {
    for (const machine of this.#touched) await this.look(machine)
    this.#touched.clear()
    const { store } = scheduler
    if (store === undefined) return
    for (const id of this.#changed) {
      const record = await store.commands.find(id)
      if (record !== undefined) this.#checkState(record)
    }
    this.#changed.clear()
  }

  async look(machine: HostMachine): Promise<void> {
    const records = await machine.hypervisor.listVms({ signal: neverAborted })
    machine.hypervisor.calls.length = 0
    this.#records.set(machine, records)
    for (const { specification: vm, generation } of records) {
      const last = this.#generations.get(vm.uuid) ?? 0
      if (generation < last)
        this.break('generationsGrow', `${vm.name} is of generation ${generation} after ${last}`)
      this.#generations.set(vm.uuid, generation)
    }
    const placements = records.map(({ placement }) => placement)
    for (const key of ['uid', 'address', 'macAddress', 'rootVolume'] as const)
      if (new Set(placements.map((placement) => placement[key])).size < placements.length)
        this.break('nothingIsShared', `two VMs of ${machine.name} have one ${key}`)
  }

  checkBounds(machines: readonly HostMachine[]): void {
    for (const machine of machines) {
      const open = machine.journal?.unfinished().length ?? 0
      // Two run and four wait in each lane; what was taken over from an earlier run is never refused.
      if (open > 12) this.break('boundsHold', `${machine.name} has ${open} operations that have not ended`)
      for (const { bytes } of this.#options.network.connectionsOf(machine.name))
        if (bytes.toHost > sendBytesMax)
          this.break('boundsHold', `${bytes.toHost} bytes wait for ${machine.name}`)
    }
  }

  #acknowledges(machine: HostMachine, id: string): void {
    const issued = this.issued.get(id)
    if (issued === undefined)
      return void this.break(
        'onlyTheSignedIsObeyed',
        `${machine.hostId} acknowledges ${id}, which nobody signed`
      )
    // What only looks is not recorded: it is asked for again.
    if (issued.claims.subject === undefined) return
    if (machine.journal?.find(id) === undefined)
      this.break('acknowledgedIsDurable', `${machine.hostId} acknowledges ${id} and has not recorded it`)
    if (!this.acknowledged.has(id))
      this.acknowledged.set(id, { machine, hostId: machine.hostId, at: this.#options.time.elapsed })
  }

  #tells(machine: HostMachine, result: CommandResult): void {
    // What only looks is not recorded, and asked again it looks again.
    if (this.issued.get(result.command)?.claims.subject === undefined) return
    const before = this.results.get(result.command)
    this.results.set(result.command, result)
    if (before !== undefined && before.outcome !== result.outcome && machine.lostStateAt === undefined)
      this.break(
        'resultsStay',
        `${machine.hostId} told ${before.outcome} of ${result.command}, now ${result.outcome}`
      )
  }

  #requireOwn(
    machine: HostMachine,
    method: string,
    vm: string,
    { command = '', generation = 0, uuid = '' }: Cause
  ): void {
    const last = this.#lastEffect.get(uuid) ?? 0
    if (generation < last)
      this.break(
        'effectsInOrder',
        `${machine.name} calls ${method} of ${vm} for generation ${generation} after ${last}: ${command}`
      )
  }

  #count(command: string, effect: Effect): void {
    const effects = this.effects.get(command) ?? []
    const before = effects.findLast(({ kind }) => kind === effect.kind)
    if (before !== undefined && before.disturbances === effect.disturbances)
      this.break('oneEffect', `${effect.vm} was ${effect.kind} twice by ${command}`)
    effects.push(effect)
    this.effects.set(command, effects)
  }

  #checkState(record: CommandRecord): void {
    const before = this.#states.get(record.id)
    this.#states.set(record.id, record)
    if (before === undefined) return
    const ended = before.state === 'done' || before.state === 'failed'
    if (
      ended &&
      (before.state !== record.state || JSON.stringify(before.error) !== JSON.stringify(record.error))
    )
      this.break('resultsStay', `${record.verb} ${record.id} was ${before.state} and is ${record.state}`)
    const open = !operationStatesEnded.includes(record.state)
    if (!open && record.error?.code === 'E_INTERNAL')
      this.break('noBug', `${record.verb} ${record.id} ended with ${record.error.message}`)
  }
}

const neverAborted = new AbortController().signal
