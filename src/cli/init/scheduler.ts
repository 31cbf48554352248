// "hostlet init --scheduler-here": this machine becomes the scheduler of a fleet.

import { homedir } from 'node:os'
import { parseConfigText } from '../../lib/config-file.ts'
import { type SchedulerConfig, SchedulerConfigSchema } from '../../scheduler/config.ts'
import type { Cli } from '../cli.ts'
import { loadOrExit } from '../daemon.ts'
import { planExitCodes } from '../exit-codes.ts'
import { askToGoOn, canAsk } from './ask.ts'
import { changesOf, withValues } from './config-edit.ts'
import { Machine } from './machine.ts'
import type { InitOptions } from './options.ts'
import { schedulerSample } from './samples.ts'
import { exportLine, ownNames, schedulerConfigFile, schedulerSteps } from './scheduler-steps.ts'
import { carryOut, stepsToDo } from './steps.ts'

/** Throws what a step throws, with how to go on. */
export async function initScheduler(options: InitOptions, cli: Cli, signal: AbortSignal): Promise<void> {
  const machine = new Machine({ clock: cli.clock, signal })
  const before = machine.read(schedulerConfigFile) ?? schedulerSample() ?? ''
  // Names that are there were chosen: they stand in a certificate.
  const hasNames = /^names:/m.test(before)
  const names = options.name ?? (hasNames ? undefined : ownNames())
  const changes = names === undefined ? [] : [{ at: ['names'], value: names }]
  const file = { path: schedulerConfigFile, text: withValues(before, changes) }
  const config = loadOrExit(() => parse(file.text))
  const home = cli.environment.HOME ?? homedir()
  const steps = await stepsToDo(schedulerSteps(machine, { config, file, home }))
  if (steps.length === 0) {
    cli.print('Nothing to do: the scheduler runs.', ...next(config))
    return
  }
  const shown = changesOf(before, changes).map(({ key, after }) => `        ${key}: ${after}`)
  const isConfig = (what: string) => what === `write ${schedulerConfigFile}`
  cli.note('To do:', ...steps.flatMap(({ what }) => [`  - ${what}`, ...(isConfig(what) ? shown : [])]))
  if (options.dryRun === true) {
    cli.note('', 'Nothing was changed. Without --dry-run this is done.')
    cli.exitStatus = planExitCodes.changes
    return
  }
  if (options.yes !== true && canAsk()) await askToGoOn(signal)
  cli.note('')
  await carryOut(steps, (line) => cli.note(line))
  const start = machine.hasSystemd
    ? []
    : [
        'systemd does not run here; start the scheduler as what starts services here does:',
        `  runuser -u hostlet-scheduler -- hostlet scheduler --config ${schedulerConfigFile}`
      ]
  cli.print(...start, ...next(config))
}

function next(config: SchedulerConfig): string[] {
  return [
    'root of this machine finds it; for another user or machine, with copies of the two files:',
    `  ${exportLine(config)}`,
    'The line that lets a host join:',
    '  hostlet host token'
  ]
}

function parse(text: string): SchedulerConfig {
  return parseConfigText(text, schedulerConfigFile, SchedulerConfigSchema)
}
