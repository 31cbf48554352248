// A hypervisor host of the world: what outlives its agent (libvirt and its machines, files, the kernel's rules), and the
// agent, which is the product's own from the journal to the session, and can be killed anywhere.

import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { assemble } from '../../src/agent/assembly.ts'
import { BackupRecords } from '../../src/agent/backups/records.ts'
import { MemoryNft } from '../../src/agent/firewall/memory-nft.ts'
import { BootRecord } from '../../src/agent/host/boot-record.ts'
import { createHost } from '../../src/agent/host/host.ts'
import { MemoryHypervisor } from '../../src/agent/host/memory-hypervisor.ts'
import { baseVolumeName } from '../../src/agent/host/names.ts'
import { loadIdentity, saveIdentity } from '../../src/agent/identity/identity.ts'
import { KnownVms } from '../../src/agent/inventory/known-vms.ts'
import { ledgerOf } from '../../src/agent/inventory/ledger.ts'
import { EscrowRecords } from '../../src/agent/keys/escrow-records.ts'
import { Journal } from '../../src/agent/operations/journal.ts'
import { Trail } from '../../src/agent/trail/trail.ts'
import { HostletError } from '../../src/errors.ts'
import type { LogFields } from '../../src/lib/log.ts'
import type { OutputLogger } from '../../src/lib/log-output.ts'
import type { AgentMessage } from '../../src/protocol/messages.ts'
import { Disk } from './disk.ts'
import { enrollmentsMax, type Fixtures, hostIdOf } from './fixtures.ts'
import { type Cause, Libvirtd } from './libvirtd.ts'
import type { Network } from './network.ts'
import type { Promises } from './promises.ts'
import type { Random } from './random.ts'
import type { Trace } from './trace.ts'
import { epochMs, type Life, MachineClock, type Skew, type VirtualTime } from './virtual-time.ts'

export interface HostMachineOptions {
  readonly name: string
  readonly directory: string
  readonly fixtures: Fixtures
  readonly time: VirtualTime
  readonly random: Random
  readonly trace: Trace
  readonly network: Network
  readonly promises: Promises
  /** The agent died of its fuse. */
  onDied(): void
  /** Its power went by its fuse. */
  onPowerLost(): void
  /** How long its disk takes for a sync, at most. */
  readonly syncMsMax: number
}

/** Where the agent is to be killed, or its host to lose power: so many writes of the journal, or calls of libvirt, from now on. */
export interface Fuse {
  readonly what: 'journal' | 'call'
  readonly when: 'before' | 'after'
  readonly ends: 'agent' | 'power'
  left: number
}

interface Incarnation {
  readonly life: Life
  readonly journal: Journal
  stack: AsyncDisposableStack
  line(): string
}

const gibibyte = 1024 ** 3

export class HostMachine {
  readonly name: string
  readonly hypervisor: MemoryHypervisor
  readonly libvirtd: Libvirtd
  readonly skew: Skew = { ms: 0 }
  /** Since when its wall clock says what it says. */
  steppedAt = Number.NEGATIVE_INFINITY
  readonly disk: Disk
  fuse: Fuse | undefined
  /** Its state directory was lost, and what it had acknowledged with it. */
  lostStateAt: number | undefined
  readonly #options: HostMachineOptions
  readonly #nft = new MemoryNft()
  #agent: Incarnation | undefined
  #enrollment = 0
  #boots = 1
  /** VMs that nothing started since the host booted. */
  #untouchedSinceBoot = new Set<string>()

  constructor(options: HostMachineOptions) {
    const { name, time, random, trace, directory } = options
    this.name = name
    this.#options = options
    mkdirSync(directory)
    const { syncMsMax } = options
    this.disk = new Disk({ directory, statePath: this.statePath, time, random, syncMsMax })
    this.hypervisor = new MemoryHypervisor({
      clock: { now: () => epochMs + time.elapsed + this.skew.ms },
      poolBytes: gibibyte
    })
    this.hypervisor.open()
    this.libvirtd = new Libvirtd({
      ...{ host: name, hypervisor: this.hypervisor, time, random, trace },
      causeOf: (_method, vm) => this.#causeOf(vm),
      onCall: (method, vm, cause) => options.promises.call(this, method, vm, cause),
      onEvent: (event, cause) => {
        this.#untouchedSinceBoot.delete(event.name)
        options.promises.effect(this, event, cause)
      }
    })
    this.#provideState()
  }

  /** Puts the image into the pool, as if it had been fetched before. */
  async prepare(): Promise<void> {
    const { image, imageContent } = this.#options.fixtures
    const volume = { name: baseVolumeName(image), format: image.format, sizeBytes: imageContent.length }
    await this.hypervisor.uploadBase(volume, Readable.from([imageContent]), {
      signal: new AbortController().signal
    })
  }

  get hostId(): string {
    return hostIdOf(this.name, this.#enrollment)
  }

  get nextHostId(): string {
    return hostIdOf(this.name, this.#enrollment + 1)
  }

  get isRunning(): boolean {
    return this.#agent?.life.isAlive === true
  }

  /** Of the agent that runs. */
  get journal(): Journal | undefined {
    return this.isRunning ? this.#agent?.journal : undefined
  }

  /** What `systemctl status` would say. */
  get line(): string {
    return this.isRunning ? (this.#agent?.line() ?? '') : 'not running'
  }

  get canEnroll(): boolean {
    return this.#enrollment + 1 < enrollmentsMax
  }

  get statePath(): string {
    return join(this.#options.directory, 'state')
  }

  get runtimePath(): string {
    return join(this.#options.directory, `run-${this.#boots}`)
  }

  /** As systemd starts it: an agent that ends with an error is started again. */
  async startAgent(): Promise<void> {
    if (this.isRunning) return
    try {
      await this.#startAgent()
    } catch (error) {
      if (!(error instanceof HostletError) || error.code === 'E_INTERNAL') throw error
      this.#options.trace.note(this.name, `agent does not start: ${error.code} ${error.message}`)
      this.killAgent()
      this.#options.onDied()
    }
  }

  /** As app.ts starts it, but for TLS, the service manager, and what is read of the machine under the tests. */
  async #startAgent(): Promise<void> {
    const { fixtures, time, network, random, promises, trace } = this.#options
    const life: Life = { isAlive: true }
    const clock = new MachineClock({ time, life, skew: this.skew })
    const log = this.#log(life)
    this.disk.begin(life)
    const journal = new Journal(join(this.statePath, 'agent.db'), { clock, sync: this.disk.sync })
    this.#watchJournal(journal, life)
    const incarnation: Incarnation = {
      life,
      journal,
      stack: new AsyncDisposableStack(),
      line: () => 'starting'
    }
    this.#agent = incarnation
    const { stack } = incarnation
    stack.use(journal)
    const identity = { value: loadIdentity(this.statePath) }
    const { hostId } = identity.value
    trace.note(this.name, `agent starts as ${hostId}`)
    const config = {
      ...fixtures.agentConfig,
      stateDirectory: this.statePath,
      runtimeDirectory: this.runtimePath
    }
    const hypervisor = this.libvirtd.door(life, (when) => this.#burn('call', when))
    stack.defer(() => hypervisor.close())
    const { keepBytes } = config.audit
    const trail = stack.use(
      await Trail.open({
        stateDirectory: this.statePath,
        keepBytes,
        identity: () => identity.value,
        clock,
        log
      })
    )
    if (!life.isAlive) return
    const records = new BackupRecords({ database: journal.database, clock })
    const known = new KnownVms({ database: journal.database, clock })
    const host = createHost({
      ...{ config, hypervisor, hostId, agentVersion: '0.1.0', clock, log, nft: this.#nft },
      bootRecord: new BootRecord({ directory: this.runtimePath, bootId: `boot-${this.#boots}` }),
      probes: { tcp: async () => true, http: async () => true },
      availableMemoryBytes: () => 64 * gibibyte,
      qemuLogDirectory: join(this.runtimePath, 'logs'),
      machine: {
        topology: async () => [[0], [1], [2], [3], [4], [5], [6], [7]],
        memoryBytes: () => 64 * gibibyte,
        hugePages: async () => ({ totalBytes: 0, freeBytes: 0 })
      },
      backups: {
        good: records,
        instance: 'simulated',
        identity: () => identity.value,
        credentialsDirectory: undefined
      },
      escrow: new EscrowRecords({ database: journal.database }),
      ledger: ledgerOf(journal, known)
    })
    stack.defer(() => host.close())
    await host.prepare()
    if (!life.isAlive) return
    const facts = { read: async () => factsOf(hostId) }
    const work = assemble(
      {
        ...{ config, clock, log, identity, journal, trail, hypervisor, records, known },
        machine: undefined,
        random: random.next,
        host: { ...host, facts: facts as never },
        connect: (_url, handlers) => {
          const socket = network.connect({ host: this.name, identity: hostId, life }, handlers)
          return watchSends(socket, (message) => promises.said(this, message))
        }
      },
      stack
    )
    incarnation.line = () => work.line()
    promises.started(this, journal)
    work.begin()
  }

  /** SIGKILL. Its kernel closes what it had open. */
  killAgent(): void {
    const agent = this.#end()
    if (agent === undefined) return
    this.#options.trace.note(this.name, 'agent is killed')
    for (const connection of this.#options.network.connectionsOf(this.name)) connection.agentDied()
    this.disk.end(() => close(agent.journal))
  }

  /** As systemd stops it. */
  async stopAgent(): Promise<void> {
    const agent = this.#agent
    if (agent === undefined || !agent.life.isAlive) return
    this.#options.trace.note(this.name, 'agent is stopped')
    await agent.stack.disposeAsync()
    if (this.#agent === agent) this.killAgent()
  }

  /** The host loses power: machines are off, and the journal is what the disk has of it. */
  cutPower(): void {
    this.libvirtd.stop()
    const agent = this.#end()
    for (const connection of this.#options.network.connectionsOf(this.name)) connection.agentVanished()
    if (agent !== undefined) this.disk.end(() => close(agent.journal))
    const lost = this.disk.losePower()
    if (lost > 0) this.#options.trace.fault(this.name, 'written and not synced', `${lost} bytes`)
    this.#boots++
    this.libvirtd.happen({ kind: 'boot' }, () => this.hypervisor.bootHost())
    this.#untouchedSinceBoot = new Set(this.#options.promises.vmsOf(this))
    this.#options.promises.hostBooted(this)
  }

  /** The state directory is gone, or only the identity is to be another: enrolled anew under another id. */
  enrollAnew({ losesState }: { losesState: boolean }): void {
    this.#enrollment++
    const { fixtures } = this.#options
    if (losesState) {
      this.lostStateAt = this.#options.time.elapsed
      rmSync(this.statePath, { recursive: true })
      this.disk.forget()
      this.#provideState()
    } else saveIdentity(this.statePath, fixtures.identity(this.hostId))
  }

  #provideState(): void {
    const { fixtures } = this.#options
    fixtures.makeState(this.statePath, this.hostId)
  }

  #end(): Incarnation | undefined {
    const agent = this.#agent
    if (agent === undefined || !agent.life.isAlive) return undefined
    agent.life.isAlive = false
    this.fuse = undefined
    this.hypervisor.gates.clear()
    return agent
  }

  /** Which operation of the VM runs now, by the journal. */
  #causeOf(vm: string): Cause {
    const entries = this.#agent?.journal.unfinished() ?? []
    const running = entries.filter(
      ({ claims, state }) => claims.subject?.vm === vm && (state === 'running' || state === 'undoing')
    )
    if (running.length > 1)
      this.#options.promises.twoAtOnce(
        this,
        vm,
        running.map(({ id }) => id)
      )
    const [entry] = running
    if (entry === undefined) return { kind: this.#untouchedSinceBoot.has(vm) ? 'boot' : 'unknown' }
    const { verb, subject } = entry.claims
    return {
      kind: 'command',
      command: entry.id,
      verb,
      ...(subject && { generation: subject.generation, uuid: subject.uuid })
    }
  }

  #burn(what: Fuse['what'], when: Fuse['when']): void {
    const { fuse } = this
    if (fuse === undefined || fuse.what !== what || fuse.when !== when || --fuse.left > 0) return
    this.fuse = undefined
    const { trace, onDied, onPowerLost } = this.#options
    if (fuse.ends === 'power') {
      trace.fault(this.name, `power cut ${when} a ${what}`)
      this.cutPower()
      onPowerLost()
    } else {
      trace.fault(this.name, `agent killed ${when} a ${what}`)
      this.killAgent()
      onDied()
    }
  }

  /** Each write of the journal may be the last thing that the agent does, or be refused by a full disk. */
  #watchJournal(journal: Journal, life: Life): void {
    const { database } = journal
    const run = database.run.bind(database)
    const transaction = database.transaction.bind(database)
    const { trace, promises } = this.#options
    let entered: [id: string, digest: string][] = []
    database.transaction = (work) => {
      transaction(work)
      for (const [id, digest] of entered.splice(0)) promises.accepted(this, id, digest)
    }
    database.run = (sql, ...values) => {
      this.#burn('journal', 'before')
      if (!life.isAlive) throw dead()
      if (this.disk.isFull) throw new HostletError('E_CAPACITY', 'the disk of the journal is full')
      const changes = run(sql, ...values)
      trace.note(this.name, `journal ${sql.slice(0, 40).replaceAll(/\s+/g, ' ')}`)
      if (sql.startsWith('INSERT INTO commands')) entered = [[String(values[0]), String(values[1])]]
      this.#burn('journal', 'after')
      if (!life.isAlive) throw dead()
      return changes
    }
  }

  #log(life: Life): OutputLogger {
    const { trace, promises } = this.#options
    const note = (level: string) => (fields: LogFields, message: string) => {
      if (!life.isAlive) return
      trace.note(this.name, `${level}: ${message} ${faultOf(fields)}`)
      const { error } = fields
      if (error instanceof HostletError && error.code === 'E_INTERNAL')
        promises.internal(this, message, error)
      else if (error instanceof Error && !(error instanceof HostletError))
        promises.internal(this, message, error)
    }
    const log: OutputLogger = {
      debug: () => undefined,
      info: note('info'),
      warn: note('warn'),
      error: note('error'),
      child: () => log,
      setLevel: () => undefined
    }
    return log
  }
}

function faultOf({ error, command, vm, event, reason }: LogFields): string {
  const what = error instanceof Error ? `${(error as { code?: string }).code ?? ''} ${error.message}` : ''
  return [command, vm, event, reason, what].filter(Boolean).join(' ')
}

function close(journal: Journal): void {
  try {
    journal[Symbol.dispose]()
  } catch {
    // In the middle of a transaction, as a kill is: the file is what counts.
  }
}

function dead(): Error {
  return new HostletError('E_UNAVAILABLE', 'the process was killed')
}

function watchSends<Socket extends { send(message: AgentMessage): void; readonly isOpen: boolean }>(
  socket: Socket,
  said: (message: AgentMessage) => void
): Socket {
  const send = socket.send.bind(socket)
  socket.send = (message) => {
    if (socket.isOpen) said(message)
    send(message)
  }
  return socket
}

function factsOf(hostId: string) {
  return {
    hostId,
    hostname: hostId,
    agentVersion: '0.1.0',
    libvirtVersion: '9.0.0',
    hypervisorVersion: 'QEMU 7.2.0',
    accelerator: 'kvm',
    architecture: 'x86_64',
    kernel: '6.1.0',
    operatingSystem: 'Debian 12',
    cpuModel: 'simulated',
    cpus: 8,
    memoryBytes: 64 * gibibyte,
    poolCapacityBytes: 100 * gibibyte,
    poolAvailableBytes: 80 * gibibyte,
    bootedAt: 1_000
  }
}
