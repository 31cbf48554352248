// What makes a machine the scheduler of a fleet: account, configuration, unit, and where root's command line finds it.

import { hostname, networkInterfaces } from 'node:os'
import { HostletError } from '../../errors.ts'
import type { SchedulerConfig } from '../../scheduler/config.ts'
import { answersHealth } from '../health-check.ts'
import { isCurrent, isEnabled, startUnit } from './agent-unit.ts'
import type { Machine } from './machine.ts'
import type { Step } from './steps.ts'
import { accountSteps, configStep, type WantedConfig } from './system-steps.ts'

export interface SchedulerPlan {
  readonly config: SchedulerConfig
  readonly file: WantedConfig
  /** Home of who runs this: its command line is told where the scheduler is, unless it knows one. */
  readonly home: string
}

const user = 'hostlet-scheduler'
const unit = 'hostlet-scheduler'
export const schedulerConfigFile = '/etc/hostlet/scheduler.yaml'
const lookMs = 300
const startMsMax = 60_000

export function schedulerSteps(machine: Machine, plan: SchedulerPlan): Step[] {
  return [
    ...accountSteps(machine, user),
    directoryStep(machine, plan.config),
    configStep(machine, plan.file, user),
    ...(machine.hasSystemd ? [unitStep(machine, plan.config)] : []),
    userFileStep(machine, plan)
  ]
}

/** Where people and hosts reach it, as the first of its names says. */
export function schedulerUrl({ advertise, names, listen }: SchedulerConfig): string {
  const [name = 'localhost'] = names
  return advertise?.[0] ?? `https://${name.includes(':') ? `[${name}]` : name}:${listen.port}`
}

/** This machine by name and address, for a certificate that fits whichever a host dials. */
export function ownNames(): string[] {
  const addresses = Object.values(networkInterfaces())
    .flat()
    .filter((entry) => entry?.family === 'IPv4' && !entry.internal)
    .map((entry) => entry?.address ?? '')
  return [...new Set([hostname(), ...addresses, 'localhost', '127.0.0.1'])].slice(0, 32)
}

/** The same for this shell. */
export function exportLine(config: SchedulerConfig): string {
  const { stateDirectory } = config
  return `export HOSTLET_SCHEDULER=${schedulerUrl(config)} HOSTLET_CA_FILE=${stateDirectory}/ca.pem HOSTLET_API_KEY_FILE=${stateDirectory}/admin.key`
}

function directoryStep(machine: Machine, { stateDirectory }: SchedulerConfig): Step {
  return {
    what: `make ${stateDirectory}`,
    isDone: () => machine.exists(stateDirectory),
    act: async () => {
      machine.makeDirectory(stateDirectory, { mode: 0o700, owner: machine.account(user) })
      return undefined
    },
    help: 'Look at its file system: df, mount, and whether it is read-only.'
  }
}

function unitStep(machine: Machine, config: SchedulerConfig): Step {
  let isStale = false
  return {
    what: 'enable and start hostlet-scheduler.service, and wait until it answers',
    isDone: async (before) => {
      // What runs was started before what these will write.
      isStale = before.length > 0
      if (isStale || !(await isEnabled(machine, unit))) return false
      return (await isCurrent(machine, unit, schedulerConfigFile)) && (await answers(machine, config))
    },
    act: async () => {
      await startUnit(machine, { unit, config: schedulerConfigFile, isStale })
      await untilAnswers(machine, config)
      return schedulerUrl(config)
    },
    help: 'journalctl -u hostlet-scheduler says why. Hosts and VMs do not need it to go on.'
  }
}

async function untilAnswers(machine: Machine, config: SchedulerConfig): Promise<void> {
  const deadline = machine.clock.monotonic() + startMsMax
  while (!(await answers(machine, config))) {
    if (machine.clock.monotonic() > deadline)
      throw new HostletError(
        'E_TIMEOUT',
        `it does not answer at port ${config.listen.port} after ${startMsMax / 1_000} s`
      )
    await machine.clock.sleep(lookMs, machine.signal)
  }
}

async function answers(machine: Machine, { listen, names, stateDirectory }: SchedulerConfig) {
  const caFile = `${stateDirectory}/ca.pem`
  if (!machine.exists(caFile)) return false
  const target = { ...listen, name: names[0] ?? 'localhost', caFile: machine.at(caFile) }
  return await answersHealth(target, machine.signal)
}

function userFileStep(machine: Machine, { config, home }: SchedulerPlan): Step {
  const path = `${home}/.config/hostlet/cli.yaml`
  const { stateDirectory } = config
  const text = `# Written by "hostlet init": where the command line of this user finds the scheduler.\nscheduler: ${schedulerUrl(config)}\ncaFile: ${stateDirectory}/ca.pem\napiKeyFile: ${stateDirectory}/admin.key\n`
  return {
    what: `tell the command line where the scheduler is (${path})`,
    // One that is there is its user's own.
    isDone: () => machine.exists(path),
    act: async () => {
      machine.write(path, text, { mode: 0o600 })
      return undefined
    },
    help: `Do without: ${exportLine(config)}`
  }
}
