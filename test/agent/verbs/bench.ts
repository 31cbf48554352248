// A host to try verbs on, and a runner: the real engine with a journal in memory, which a test can crash and resume.

import { createHash, randomUUID } from 'node:crypto'
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BackupParts } from '../../../src/agent/backups/backups.ts'
import { MemoryNft } from '../../../src/agent/firewall/memory-nft.ts'
import { BootRecord } from '../../../src/agent/host/boot-record.ts'
import { createHost, type Host, type HostConfig } from '../../../src/agent/host/host.ts'
import type { Hypervisor } from '../../../src/agent/host/hypervisor.ts'
import { MemoryHypervisor } from '../../../src/agent/host/memory-hypervisor.ts'
import type { Probes } from '../../../src/agent/host/readiness.ts'
import type { Ledger } from '../../../src/agent/inventory/ledger.ts'
import { Engine } from '../../../src/agent/operations/engine.ts'
import type { JournalEntry } from '../../../src/agent/operations/journal.ts'
import type { Outcome } from '../../../src/agent/operations/verb.ts'
import { VerbTable } from '../../../src/agent/operations/verb-table.ts'
import { profileOf } from '../../../src/agent/profiles.ts'
import type { HostMachine } from '../../../src/agent/resources/host-machine.ts'
import { verbs } from '../../../src/agent/verbs/registry.ts'
import { asHostletError, type ErrorReport } from '../../../src/errors.ts'
import { type Clock, systemClock } from '../../../src/lib/clock.ts'
import { type Logger, silentLogger } from '../../../src/lib/log.ts'
import type { CommandClaims, CommandSubject } from '../../../src/protocol/command.ts'
import type { VmSpecification } from '../../../src/protocol/vm.ts'

export interface Bench extends AsyncDisposable {
  readonly hypervisor: MemoryHypervisor
  readonly nft: MemoryNft
  readonly host: Host
  readonly directory: string
  readonly imagePath: string
  /** The image at `imagePath`, as a command names it. */
  readonly image: VmSpecification['image']
  /** A specification that can be carried out, with changes. */
  specification(changes?: Partial<VmSpecification>): VmSpecification
  /** Another agent on the same host: as after a restart. */
  restarted(hypervisor?: Hypervisor): Host
  /** What is on the host besides base images: empty when a VM left nothing. */
  leftovers(): Promise<string[]>
}

export interface BenchOptions {
  readonly clock?: Clock
  readonly poolBytes?: number
  readonly config?: Partial<HostConfig>
  readonly probes?: Probes
  readonly availableMemoryBytes?: () => number
  readonly machine?: HostMachine
  readonly hostId?: string
  readonly backups?: BackupParts
  readonly ledger?: Ledger
  readonly log?: Logger
}

export const allAnswer: Probes = { tcp: async () => true, http: async () => true }

export async function makeBench(options: BenchOptions = {}): Promise<Bench> {
  const {
    clock = systemClock,
    probes = allAnswer,
    poolBytes,
    availableMemoryBytes = () => 1024 ** 4
  } = options
  const directory = await mkdtemp(join(tmpdir(), 'hostlet-verbs-'))
  await chmod(directory, 0o711)
  const imagePath = join(directory, 'images', 'small.img')
  await mkdir(join(directory, 'images'))
  const content = Buffer.alloc(64 * 1024, 'image ')
  await writeFile(imagePath, content)
  const hypervisor = new MemoryHypervisor({ clock, ...(poolBytes && { poolBytes }) })
  hypervisor.open()
  const nft = new MemoryNft()
  const config: HostConfig = {
    stateDirectory: join(directory, 'state'),
    runtimeDirectory: join(directory, 'run'),
    profiles: {
      starter: profileOf({ network: 'hl-net', bridge: 'hlnet', subnet: '10.90.0.0/24', encryption: false })
    },
    vmUids: { first: 1_900_000_000, count: 16 },
    images: { allowFileUrls: [join(directory, 'images')], cacheBytesMax: 1024 ** 3 },
    stop: { graceMs: 5_000 },
    readyTimeoutMs: 60_000,
    backup: { policy: join(directory, 'policy', 'policy.yaml'), compressionLevel: 1, freezeMs: 1_000 },
    ...options.config
  }
  const bootRecord = new BootRecord({ directory: config.runtimeDirectory, bootId: 'boot-1' })
  const common = {
    config,
    hostId: options.hostId ?? 'host-1',
    ...(options.backups && { backups: options.backups }),
    ...(options.machine && { machine: options.machine }),
    ...(options.ledger && { ledger: options.ledger }),
    agentVersion: '0.1.0',
    clock,
    log: options.log ?? silentLogger,
    bootRecord,
    probes,
    availableMemoryBytes,
    qemuLogDirectory: join(directory, 'logs'),
    nft
  }
  const image = {
    url: `file://${imagePath}`,
    sha256: createHash('sha256').update(content).digest('hex'),
    format: 'raw'
  } as const
  const hosts: Host[] = []
  const open = (on: Hypervisor) => {
    const host = createHost({ ...common, hypervisor: on })
    hosts.push(host)
    return host
  }
  const bench: Bench = {
    hypervisor,
    nft,
    directory,
    imagePath,
    image,
    host: open(hypervisor),
    restarted: (other = hypervisor) => {
      hypervisor.gates.clear()
      return open(other)
    },
    specification: (changes = {}) => ({
      name: 'web-1',
      uuid: '0b54e6f2-6b53-4a3e-9d1c-0123456789ab',
      profile: 'starter',
      image,
      cpus: 1,
      memoryBytes: 256 * 1024 ** 2,
      rootDiskBytes: 1024 ** 2,
      ...changes
    }),
    leftovers: () => leftoversOf(hypervisor, config),
    [Symbol.asyncDispose]: async () => {
      // A host may still be writing down when its VMs started.
      await Promise.all(hosts.map((host) => host.close()))
      await rm(directory, { recursive: true, force: true })
    }
  }
  return bench
}

async function leftoversOf(hypervisor: MemoryHypervisor, config: HostConfig): Promise<string[]> {
  const wait = { signal: AbortSignal.timeout(10_000) }
  const vms = (await hypervisor.listVms(wait)).map((vm) => `vm ${vm.specification.name}`)
  const volumes = (await hypervisor.listVolumes(wait))
    .filter(({ name }) => !name.startsWith('base-'))
    .map(({ name }) => `volume ${name}`)
  const networks = Object.values(config.profiles).map(({ network }) => network)
  const reservations = []
  const own = (await hypervisor.listNetworks(wait)).filter(({ name }) => !networks.includes(name))
  for (const network of networks) {
    const found = await hypervisor.listReservations(network, wait).catch(() => [])
    reservations.push(...found.map(({ address }) => `reservation ${address}`))
  }
  const files = async (path: string) => (await readdir(path).catch(() => [])).map((name) => `file ${name}`)
  const downloads = (await files(join(config.stateDirectory, 'images'))).filter((name) =>
    name.endsWith('.part')
  )
  return [
    ...vms,
    ...volumes,
    ...reservations,
    ...own.map(({ name }) => `network ${name}`),
    ...downloads,
    ...(await files(join(config.runtimeDirectory, 'seeds')))
  ]
}

export interface RunOptions {
  readonly subject?: CommandSubject
  readonly signal?: AbortSignal
  /** A run to go on with, as its journal has it. */
  readonly from?: MemoryJournal
}

/** What the journal would hold of one operation. */
export class MemoryJournal {
  entry: JournalEntry

  constructor(claims: CommandClaims) {
    this.entry = {
      id: claims.id,
      digest: '',
      claims,
      state: 'accepted',
      attempts: 0,
      step: 0,
      notes: {},
      failure: undefined,
      result: undefined,
      startedAt: undefined
    } as JournalEntry
  }

  begin(): void {
    this.entry = { ...this.entry, attempts: this.entry.attempts + 1 }
  }

  checkpoint(_id: string, step: number, notes: Record<string, unknown>): void {
    this.entry = { ...this.entry, step, notes }
  }

  turnBack(_id: string, failure: ErrorReport): void {
    this.entry = { ...this.entry, failure }
  }

  async durable(): Promise<void> {}
}

export interface Run {
  readonly outcome: Promise<Outcome>
  readonly journal: MemoryJournal
  readonly steps: string[]
}

/** Carries a verb out as the agent does: arguments checked, the verb's own check, then its steps. */
export function begin(
  host: Host,
  verbName: string,
  args: Record<string, unknown>,
  options: RunOptions = {}
): Run {
  const claims = claimsOf(verbName, args, options.subject)
  const journal = options.from ?? new MemoryJournal(claims)
  const steps: string[] = []
  return { journal, steps, outcome: carryOut(host, { journal, steps, signal: options.signal }) }
}

/** The result, or the error report of a failure or refusal. */
export async function carry(
  host: Host,
  verbName: string,
  args: Record<string, unknown>,
  options: RunOptions = {}
): Promise<Outcome> {
  return await begin(host, verbName, args, options).outcome
}

export async function succeed(
  host: Host,
  verbName: string,
  args: Record<string, unknown>,
  options: RunOptions = {}
): Promise<Record<string, unknown>> {
  const outcome = await carry(host, verbName, args, options)
  if (outcome.outcome === 'done') return outcome.value
  throw new Error(`${verbName}: ${outcome.error.code} ${outcome.error.message}`)
}

async function carryOut(
  host: Host,
  { journal, steps, signal }: { journal: MemoryJournal; steps: string[]; signal: AbortSignal | undefined }
): Promise<Outcome> {
  const stop = signal ?? new AbortController().signal
  const table = new VerbTable(verbs)
  try {
    const { claims, attempts } = journal.entry
    const { verb, params } = table.prepare(claims)
    if (attempts === 0) await verb.check?.(params, host, operationOf(claims, stop))
    const readiness = { isReady: () => true, untilReady: () => Promise.resolve() }
    const engine = new Engine({ host, journal, clock: host.clock, readiness, random: () => 0 })
    const outcome = await engine.run({
      entry: journal.entry,
      verb,
      params: params as never,
      log: silentLogger,
      stop,
      onProgress: ({ step }) => {
        if (steps.at(-1) !== step) steps.push(step)
      }
    })
    return outcome === undefined ? crashed() : table.checkOutcome(verb, outcome)
  } catch (error) {
    return { outcome: 'failed', error: asHostletError(error).toReport() }
  }
}

function crashed(): Outcome {
  return { outcome: 'failed', error: { code: 'E_INTERRUPTED', message: 'the agent was stopped' } }
}

function operationOf(claims: CommandClaims, signal: AbortSignal) {
  const { id, verb, subject } = claims
  return { id, verb, subject, signal, log: silentLogger, notes: {}, progress: () => undefined }
}

let generations = 0

/** Each command is of a newer generation, as the scheduler counts them. */
function claimsOf(verb: string, args: Record<string, unknown>, subject?: CommandSubject): CommandClaims {
  const named = (args.specification ?? {}) as { name?: string; uuid?: string }
  const vm = named.name ?? (args.vm as string | undefined)
  const uuid = named.uuid ?? (args.uuid as string | undefined) ?? '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'
  const changes = verbs.some(({ name, changes }) => name === verb && changes)
  const about =
    subject ?? (vm === undefined || !changes ? undefined : { vm, uuid, generation: ++generations })
  return {
    id: randomUUID(),
    verb,
    audience: 'host-1',
    issuedAt: 0,
    expiresAt: 0,
    arguments: args,
    ...(about && { subject: about })
  }
}
