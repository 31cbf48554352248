// The agent as a whole: starts its parts in order and stops them in reverse. VMs are not among what it stops.

import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { asHostletError, type HostletError } from '../errors.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import { logLastWords } from '../lib/last-words.ts'
import { createLogger, type OutputLogger } from '../lib/log-output.ts'
import { ensurePrivateDirectory } from '../lib/private-file.ts'
import { release } from '../lib/release.ts'
import { SystemdNotify } from '../lib/systemd-notify.ts'
import { localSocketName } from '../protocol/local.ts'
import { assemble } from './assembly.ts'
import { BackupRecords } from './backups/records.ts'
import type { AgentConfig } from './config.ts'
import type { Nft } from './firewall/nft.ts'
import { createHost } from './host/host.ts'
import type { Hypervisor } from './host/hypervisor.ts'
import { LibvirtHypervisor } from './host/libvirt-hypervisor.ts'
import { loadIdentity } from './identity/identity.ts'
import { readMachine } from './identity/machine.ts'
import { retiredAuthorities } from './identity/trust.ts'
import type { CurrentIdentity } from './identity/trust-keeper.ts'
import { KnownVms } from './inventory/known-vms.ts'
import { ledgerOf } from './inventory/ledger.ts'
import { EscrowRecords } from './keys/escrow-records.ts'
import { LocalServer } from './local/server.ts'
import type { DatabaseOptions } from './operations/database.ts'
import { Journal } from './operations/journal.ts'
import type { Parts } from './parts.ts'
import { StatusLine } from './status-line.ts'
import { Trail } from './trail/trail.ts'

export interface Agent extends AsyncDisposable {
  readonly hostId: string
  /** Resolves with why the agent cannot go on, if ever: whoever runs it stops it and starts a new one. */
  readonly failed: Promise<HostletError>
  /** Resolves when everything is closed. Operations are left where they are, for the next start; VMs run on. */
  stop(): Promise<void>
}

export interface AgentOptions {
  readonly clock?: Clock
  readonly log?: OutputLogger
  /** For tests; libvirt otherwise. */
  readonly hypervisor?: Hypervisor
  /** For tests; the kernel's packet filter otherwise. */
  readonly nft?: Nft
  /** For tests: waits for the disk in place of fdatasync. */
  readonly sync?: DatabaseOptions['sync']
  readonly notify?: SystemdNotify
  readonly random?: () => number
  /** For tests; read from this machine otherwise. */
  readonly machine?: string
}

/**
 * Starts the agent. Resolves once it works, whether or not libvirt and the scheduler can be reached: it goes on trying.
 * Throws E_NOT_FOUND when the host is not enrolled, E_CORRUPT or E_BUSY for the state directory, E_UNAVAILABLE when a
 * directory cannot be used.
 */
export async function startAgent(config: AgentConfig, options: AgentOptions = {}): Promise<Agent> {
  const { clock = systemClock, log = createLogger(config.log), random = Math.random } = options
  await using stack = new AsyncDisposableStack()
  stack.use(logLastWords(log))
  ensurePrivateDirectory(config.stateDirectory)
  const identity: CurrentIdentity = { value: loadIdentity(config.stateDirectory) }
  log.info({ version: release, host: identity.value.hostId }, 'agent starts')
  const failed = Promise.withResolvers<HostletError>()
  const journal = stack.use(
    new Journal(join(config.stateDirectory, 'agent.db'), {
      clock,
      ...(options.sync && { sync: options.sync }),
      onFault: (error) => {
        log.error({ error }, 'journal cannot be trusted, the agent starts anew')
        failed.resolve(error)
      },
      onTrouble: (error) => log.warn({ error: asHostletError(error) }, 'journal could not be made shorter')
    })
  )
  // Not before the state directory is ours: a second agent must not take the socket of the first.
  const local = stack.use(
    await LocalServer.open(join(config.runtimeDirectory, localSocketName), { log, clock })
  )
  const machine = options.machine ?? readMachine()
  const { stateDirectory, audit } = config
  const trail = stack.use(
    await Trail.open({ stateDirectory, ...audit, identity: () => identity.value, clock, log })
  )
  const parts: Parts = { config, clock, log, random, identity, machine, journal, trail, local }
  const known = new KnownVms({ database: journal.database, clock })
  const hypervisor = options.hypervisor ?? createHypervisor(parts, known)
  stack.defer(() => hypervisor.close())
  const { hostId } = identity.value
  const instance = randomUUID()
  const records = new BackupRecords({ database: journal.database, clock })
  const backups = {
    good: records,
    instance,
    identity: () => ({ ...identity.value, retiredAuthorities: retiredAuthorities(identity.value) }),
    credentialsDirectory: process.env.CREDENTIALS_DIRECTORY
  }
  const escrow = new EscrowRecords({ database: journal.database })
  const { nft } = options
  const host = createHost({
    config,
    hypervisor,
    hostId,
    agentVersion: release,
    clock,
    log,
    backups,
    escrow,
    ledger: ledgerOf(journal, known),
    ...(nft && { nft })
  })
  stack.defer(() => host.close())
  await host.prepare()
  // Timers of the clock let the process end; an agent that has nobody to talk to for a while has to stay.
  const alive = setInterval(() => undefined, 3_600_000)
  stack.defer(() => clearInterval(alive))
  const work = assemble({ ...parts, hypervisor, host, records, known }, stack)
  work.begin()
  if (config.metrics.listen !== undefined) await work.openMetrics()
  const notify =
    options.notify ??
    new SystemdNotify({
      clock,
      onTrouble: (trouble, error) => log.warn({ trouble, error }, 'service manager')
    })
  const status = new StatusLine({ notify, clock, line: work.line, selfCheck: () => work.isWell() })
  await status.begin()
  const owned = stack.move()
  let stopped: Promise<void> | undefined
  const stop = () => {
    stopped ??= status
      .end()
      .then(() => owned.disposeAsync())
      .then(() => log.info({}, 'agent stopped, VMs run on'))
    return stopped
  }
  return { hostId, failed: failed.promise, stop, [Symbol.asyncDispose]: stop }
}

function createHypervisor({ config, clock, log }: Parts, known: KnownVms): Hypervisor {
  return new LibvirtHypervisor({
    ...config.libvirt,
    accelerator: config.accelerator,
    pool: config.pool,
    scratch: {
      reserveBytes: config.backup.scratchReserveBytes,
      ...(config.backup.scratchPool && { pool: config.backup.scratchPool })
    },
    trialUid: config.vmUids.first,
    runtimeDirectory: config.runtimeDirectory,
    known: () => known.all().map(({ uuid }) => uuid),
    clock,
    log
  })
}
