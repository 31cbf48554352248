// "hostlet init" on a host: what is chosen, what is checked, what is shown, what is done.

import { X509Certificate } from 'node:crypto'
import { type AgentConfig, AgentConfigSchema, agentConfigPath } from '../../agent/config.ts'
import { reserveBeside } from '../../agent/doctor/checks/proxmox.ts'
import * as network from '../../agent/doctor/readers/network.ts'
import { proxmoxFacts } from '../../agent/doctor/readers/proxmox.ts'
import { clashingRoutes, overlaps } from '../../agent/doctor/subnets.ts'
import { publicKeyHash } from '../../agent/identity/certificates.ts'
import { isEnrolled, loadIdentity } from '../../agent/identity/identity.ts'
import { profileFaults } from '../../agent/profiles.ts'
import { HostletError } from '../../errors.ts'
import { parseConfigText } from '../../lib/config-file.ts'
import { splitCertificates } from '../../lib/pem.ts'
import type { JoinToken } from '../../protocol/join-token.ts'
import type { Cli } from '../cli.ts'
import { loadOrExit } from '../daemon.ts'
import { planExitCodes } from '../exit-codes.ts'
import { readJoin } from '../join-options.ts'
import { ask, askSecret, askToGoOn, canAsk } from './ask.ts'
import { configChanges, type HostChoices, hasSampleProfiles, subnetCandidates } from './choices.ts'
import { changesOf, withValues } from './config-edit.ts'
import { isFit } from './fit.ts'
import { hostSteps } from './host-steps.ts'
import { Machine } from './machine.ts'
import type { InitOptions } from './options.ts'
import { type Preflight, preflight } from './preflight.ts'
import { agentSample } from './samples.ts'
import { carryOut, stepsToDo } from './steps.ts'

const gibibyte = 1024 ** 3

/** Throws what a step throws, with how to go on. */
export async function initHost(options: InitOptions, cli: Cli, signal: AbortSignal): Promise<void> {
  const machine = new Machine({ clock: cli.clock, signal })
  const before = machine.read(agentConfigPath) ?? agentSample() ?? ''
  const present = loadOrExit(() => parse(before))
  const asking = options.yes !== true && options.tokenFile === undefined && canAsk()
  const join = await joinOf(options, { present, asking, cli, signal })
  const choices = await chosen(options, { present, asking, signal })
  const changes = configChanges(choices, present)
  const file = { path: agentConfigPath, text: withValues(before, changes) }
  const config = loadOrExit(() => parse(file.text))
  cli.note('Looking at this machine …')
  const found = await preflight(config, join, signal)
  requireNoVms(found, changesOf(before, changes), options)
  if (!isFit(found, options, cli)) return
  const steps = await stepsToDo(hostSteps(machine, { config, file, join, rejoin: options.rejoin === true }))
  if (steps.length === 0) {
    cli.print(`Nothing to do: this machine is host ${loadIdentity(config.stateDirectory).hostId}.`, ...next)
    return
  }
  const shown = changesOf(before, changes).map(
    ({ key, before: old, after }) => `        ${key}: ${old} -> ${after}`
  )
  cli.note('', 'To do:', ...steps.flatMap(({ what }) => [`  - ${what}`, ...(isConfig(what) ? shown : [])]))
  if (options.dryRun === true) {
    const lacksToken = join === undefined && (options.rejoin === true || !isEnrolled(present.stateDirectory))
    const token = lacksToken ? ' with a token of "hostlet host token"' : ''
    cli.note('', `Nothing was changed. Without --dry-run this is done${token}.`)
    cli.exitStatus = planExitCodes.changes
    return
  }
  if (asking) await askToGoOn(signal)
  cli.note('')
  await carryOut(steps, (line) => cli.note(line))
  finish(machine, config, cli)
}

const next = [
  'Where the scheduler is:  hostlet host ls',
  '                         hostlet vm create web-1 --image URL --sha256 DIGEST --ready-port 22',
  'On this machine:         hostlet doctor; journalctl -u hostlet -f'
]

function finish(machine: Machine, { stateDirectory }: AgentConfig, cli: Cli): void {
  const { hostId } = loadIdentity(machine.at(stateDirectory))
  if (machine.hasSystemd) cli.print(`This machine is host ${hostId}, and the scheduler has it.`, ...next)
  else
    cli.print(
      `This machine is host ${hostId}. systemd does not run here; start the agent as what starts services here does:`,
      `  runuser -u hostlet -- hostlet agent --config ${agentConfigPath}`
    )
}

function isConfig(what: string): boolean {
  return what === `write ${agentConfigPath}`
}

function parse(text: string): AgentConfig {
  return parseConfigText(text, agentConfigPath, AgentConfigSchema, profileFaults)
}

/** Undefined on a host that has joined: then a token is looked at only for whether it is of the same scheduler. */
async function joinOf(
  options: InitOptions,
  context: { present: AgentConfig; asking: boolean; cli: Cli; signal: AbortSignal }
): Promise<JoinToken | undefined> {
  const { present, asking, cli, signal } = context
  const environment = cli.environment.HOSTLET_TOKEN
  const given = options.tokenFile !== undefined || (environment ?? '') !== ''
  if (isEnrolled(present.stateDirectory) && options.rejoin !== true) {
    // Its time may be over: it is not used again.
    if (given) requireSameScheduler(present.stateDirectory, readJoin(options, environment, 0))
    return undefined
  }
  if (given) return readJoin(options, environment, cli.clock.now())
  if (options.dryRun === true) return undefined
  if (!asking)
    throw new HostletError(
      'E_BAD_REQUEST',
      'this machine has joined no scheduler, and there is no token. Make one with "hostlet host token" where the scheduler is, and run the line that it prints.'
    )
  const token = await askSecret('Token of "hostlet host token" (it is not shown):', signal)
  return readJoin({ ...options, token }, undefined, cli.clock.now())
}

function requireSameScheduler(stateDirectory: string, { caHash }: JoinToken): void {
  const { hostId, caCertificate } = loadIdentity(stateDirectory)
  const hashes = splitCertificates(caCertificate).map((pem) => publicKeyHash(new X509Certificate(pem)))
  if (!hashes.includes(caHash))
    throw new HostletError(
      'E_CONFLICT',
      `this machine is host ${hostId} of another scheduler than the token's. To give that up and join anew, add --rejoin.`
    )
}

/** Flags, answers, and what the machine itself says. */
async function chosen(
  options: InitOptions,
  { present, asking, signal }: { present: AgentConfig; asking: boolean; signal: AbortSignal }
): Promise<HostChoices> {
  // A host that has joined keeps its networks: VMs may have addresses there.
  const isNew = !isEnrolled(present.stateDirectory)
  const subnet = options.subnet ?? (isNew ? await freeSubnet(present) : undefined)
  const reserveMemory = options.reserveMemory ?? (await reserveForProxmox(present))
  if (!asking) return { ...options, subnet, reserveMemory }
  const { starter } = present.profiles
  const poolPath = options.poolPath ?? (await ask('Directory of the disks:', present.pool.path, signal))
  const known = { ...options, poolPath, subnet, reserveMemory }
  if (starter === undefined || !hasSampleProfiles(present)) return known
  const bridge = options.bridge ?? (await ask('Bridge of the VMs:', starter.bridge, signal))
  if (options.subnet !== undefined) return { ...known, bridge }
  const usual = subnet ?? `${starter.subnet.replace(/\.\d+\.\d+\/\d+$/, '')}.0.0/16`
  return { ...known, bridge, subnet: await ask('Network of the VMs:', usual, signal) }
}

/** Another one where the machine has those of the configuration already; undefined where it has not. */
async function freeSubnet(present: AgentConfig): Promise<string | undefined> {
  const routes = await network.routes().catch(() => [])
  const clashes = clashingRoutes(present, routes).filter(({ route }) => !route.hasGateway)
  if (clashes.length === 0 || !hasSampleProfiles(present)) return undefined
  return subnetCandidates.find((candidate) => routes.every((route) => !overlaps(candidate, route.network)))
}

/** What guests of Proxmox and ZFS have; undefined elsewhere, and where the configuration keeps as much already. */
async function reserveForProxmox({ reserve }: AgentConfig): Promise<string | undefined> {
  const proxmox = await proxmoxFacts().catch(() => null)
  const needed = proxmox === null ? 0 : reserveBeside(proxmox)
  return needed > reserve.memoryBytes ? `${Math.ceil(needed / gibibyte)}GiB` : undefined
}

/** Disks do not move with the directory of the pool, nor addresses with a network. */
function requireNoVms(
  { vms }: Preflight,
  changes: readonly { readonly key: string }[],
  { force }: InitOptions
): void {
  const moving = changes.some(({ key }) => /^(pool|profiles)\./.test(key))
  if (vms > 0 && moving && force !== true)
    throw new HostletError(
      'E_CONFLICT',
      `this host has ${vms} ${vms === 1 ? 'VM' : 'VMs'}, whose disks and addresses do not move with another pool, bridge or network. Remove them first (hostlet vm rm), or say --force when you know that they fit.`
    )
}
