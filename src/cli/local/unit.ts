// Why no agent listens on this host, as systemd tells it.

import { runProcess } from '../../lib/run-process.ts'

const deadlineMs = 5_000
const properties = [
  'LoadState',
  'ActiveState',
  'SubState',
  'Result',
  'ExecMainStatus',
  'ConditionResult',
  'NRestarts'
]

type Unit = Readonly<Record<string, string>>

/** A sentence with the next step. `isLeft`: the socket is there, and nobody listens at it. */
export async function unitFault(path: string, isLeft: boolean): Promise<string> {
  const where = isLeft ? `nobody listens at ${path}` : `there is no ${path}`
  return `no agent runs on this host (${where}). ${adviceOf(await unitState())}`
}

/** Undefined where systemd does not tell. */
async function unitState(): Promise<Unit | undefined> {
  try {
    const { exitCode, stdout } = await runProcess(
      'systemctl',
      ['show', 'hostlet.service', ...properties.map((name) => `--property=${name}`)],
      { signal: AbortSignal.timeout(deadlineMs), deadlineMs }
    )
    if (exitCode !== 0) return undefined
    const pairs = stdout.split('\n').filter((line) => line.includes('='))
    return Object.fromEntries(
      pairs.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)])
    )
  } catch {
    return undefined
  }
}

/** Exported for its test. */
export function adviceOf(unit: Unit | undefined): string {
  if (unit === undefined)
    return 'Start it with "systemctl start hostlet", or say where it listens with --socket.'
  if (unit.LoadState === 'not-found')
    return 'hostlet.service is not installed here: this is no host of the fleet, or the agent is run by hand; then say where it listens with --socket.'
  if (unit.ActiveState === 'active')
    return 'systemd says that it runs; it may listen elsewhere ("runtimeDirectory" in /etc/hostlet/agent.yaml): say where with --socket. Otherwise see "hostlet logs".'
  if (unit.ActiveState === 'activating')
    return unit.SubState === 'auto-restart'
      ? `It ended (${endOf(unit)}) and is started again, for the ${ordinal(unit.NRestarts)} time. See "hostlet logs".`
      : 'systemd is starting it now: ask again in a moment.'
  if (unit.ActiveState === 'failed')
    return `It failed (${endOf(unit)}). See "hostlet logs", mend that, then "systemctl restart hostlet".`
  if (unit.ConditionResult === 'no' && unit.Result === 'success')
    return 'It was not started, for the host is not enrolled: "hostlet enroll", then "systemctl start hostlet".'
  return 'It is stopped: "systemctl start hostlet". VMs run on meanwhile.'
}

function endOf({ Result: result, ExecMainStatus: status }: Unit): string {
  if (status === '78') return 'its configuration is wrong: "hostlet config check /etc/hostlet/agent.yaml"'
  return result === 'exit-code' ? `status ${status}` : (result ?? 'unknown')
}

function ordinal(count = '0'): string {
  return count === '1' ? 'first' : `${count}th`
}
