// The units under systemd: enabled, started, and waited for until what they run is of use.

import { HostletError } from '../../errors.ts'
import type { Machine } from './machine.ts'
import type { Step } from './steps.ts'

const lookMs = 500
/** The status line is looked at every ten seconds; a first connection, with the clock's doubts, takes some more. */
const connectMsMax = 90_000

export interface DropIn {
  readonly path: string
  readonly text: string
  readonly what: string
}

export function unitDropIn(machine: Machine, { path, text, what }: DropIn): Step {
  return {
    what,
    isDone: () => machine.read(path) === text,
    act: async () => {
      machine.write(path, text, { mode: 0o644 })
      return undefined
    },
    help: `Write ${path} by hand:\n${text}`
  }
}

/** Enabled, running with the configuration that is there now, and connected. */
export function agentStep(machine: Machine): Step {
  const unit = 'hostlet'
  const config = '/etc/hostlet/agent.yaml'
  let isStale = false
  return {
    what: 'enable and start hostlet.service, and wait until the scheduler has the host',
    isDone: async (before) => {
      // What runs was started before what these will write.
      isStale = before.length > 0
      if (isStale || !(await isEnabled(machine, unit))) return false
      return (
        (await isCurrent(machine, unit, config)) &&
        /^Connected/.test(await property(machine, unit, 'StatusText'))
      )
    },
    act: async () => {
      await startUnit(machine, { unit, config, isStale })
      // With libvirt, too, or the first VM would find no host to go to.
      return await untilStatus(machine, unit, /^Connected to [^;]*; \d+ VMs/)
    },
    help: 'journalctl -u hostlet -p warning says why. VMs, if there are any, run on.'
  }
}

export async function startUnit(
  machine: Machine,
  { unit, config, isStale }: { unit: string; config: string; isStale: boolean }
): Promise<void> {
  await machine.must('systemctl', ['daemon-reload'])
  const restarts = (await isActive(machine, unit)) && (isStale || !(await isCurrent(machine, unit, config)))
  await machine.must('systemctl', ['enable', unit])
  await machine.must('systemctl', [restarts ? 'restart' : 'start', unit])
}

export async function isEnabled(machine: Machine, unit: string): Promise<boolean> {
  return (await machine.ask('systemctl', ['is-enabled', unit])) === 'enabled'
}

async function isActive(machine: Machine, unit: string): Promise<boolean> {
  return (await machine.ask('systemctl', ['is-active', unit])) === 'active'
}

/** Runs, and was started after its configuration and its drop-ins were last written. */
export async function isCurrent(machine: Machine, unit: string, config: string): Promise<boolean> {
  if (!(await isActive(machine, unit))) return false
  if ((await property(machine, unit, 'NeedDaemonReload')) === 'yes') return false
  const [, seconds] = /^@(\d+)$/.exec(await property(machine, unit, 'ExecMainStartTimestamp')) ?? []
  return seconds !== undefined && (Number(seconds) + 1) * 1_000 > machine.changedAt(config)
}

async function property(machine: Machine, unit: string, name: string): Promise<string> {
  return await machine.ask('systemctl', ['show', '--timestamp=unix', `--property=${name}`, '--value', unit])
}

/** Throws E_UNAVAILABLE when the unit has failed, E_TIMEOUT with its last word when it does not come that far. */
export async function untilStatus(machine: Machine, unit: string, wanted: RegExp): Promise<string> {
  const deadline = machine.clock.monotonic() + connectMsMax
  for (;;) {
    const status = await property(machine, unit, 'StatusText')
    if (wanted.test(status)) return status
    if (/^(failed|inactive)$/.test(await machine.ask('systemctl', ['is-active', unit])))
      throw new HostletError('E_UNAVAILABLE', `${unit}.service does not stay up`)
    if (machine.clock.monotonic() > deadline)
      throw new HostletError(
        'E_TIMEOUT',
        `${unit}.service runs, and says "${status || 'nothing'}" after ${connectMsMax / 1_000} s`
      )
    await machine.clock.sleep(lookMs, machine.signal)
  }
}
