// hostlet vm schedule NAME: when a VM is backed up by itself; without options, how that goes.

import type { Command } from 'commander'
import { HostletError } from '../../errors.ts'
import type { BackupScheduleView } from '../../protocol/api.ts'
import type { BackupSchedule } from '../../protocol/backup.ts'
import { apiPath } from '../api-client.ts'
import { type RetentionOptions, retentionOf, retentionOptions, retentionText } from '../backup/retention.ts'
import { clientCommand, examples, type Session } from '../client-command.ts'
import type { Define } from '../define.ts'
import { operate, operationOptions } from '../operate.ts'
import { formatDuration, formatRate, formatTime, parseBytes, parseDuration } from '../quantities.ts'
import { renderFields } from '../table.ts'

interface Options extends RetentionOptions {
  readonly target?: string
  readonly every?: string
  readonly cron?: string
  readonly timeZone?: string
  readonly jitter?: string
  readonly quiesce?: BackupSchedule['quiesce']
  readonly limit?: string
  readonly off?: boolean
  readonly wait: boolean
}

export const define: Define = (command, cli) => {
  declare(command)
  clientCommand<Options, readonly [string]>(
    command,
    cli,
    async (session, { options, arguments: [name] }) => {
      const path = apiPath('vms', name, 'backup-schedule')
      if (options.off) return turnOff(session, name, path, options)
      const schedule = scheduleOf(options)
      if (schedule === undefined) return show(session, path)
      const request = { method: 'PUT', path, body: schedule, signal: session.signal } as const
      await operate(session, request, {
        options,
        done: () => `VM ${name} is backed up to ${schedule.target} ${rhythmText(schedule)}.`
      })
    },
    ({ options }) => {
      scheduleOf(options)
      return false
    }
  )
}

function declare(command: Command): void {
  command
    .argument('<vm>', 'name of the VM')
    .option('--target <repository>', 'repository by its name in the policy of the VM’s host')
    .option('--every <duration>', 'how often, such as 6h')
    .option('--cron <expression>', 'or when, in five fields, such as "30 2 * * *"')
    .option('--time-zone <zone>', 'of the expression, such as Europe/Berlin (default: the host’s)')
    .option('--jitter <duration>', 'begin at random up to so much later')
    .addOption(
      command.createOption('--quiesce <mode>', 'as in "hostlet vm backup"').choices(['none', 'freeze'])
    )
    .option('--limit <size>', 'at most so many bytes a second, such as 50M')
  retentionOptions(command).option('--off', 'back it up by itself no more; its backups stay')
  command.addHelpText(
    'after',
    '\nThe host keeps the schedule, also while the scheduler is away. What no --keep rule names is removed after each backup, which takes a key of tier admin; without any rule everything stays.'
  )
  operationOptions(command)
  examples(
    command,
    'hostlet vm schedule web-1',
    'hostlet vm schedule web-1 --target main --every 6h --keep-last 4 --keep-daily 7',
    'hostlet vm schedule db-1 --target main --cron "30 2 * * *" --jitter 20m --quiesce freeze',
    'hostlet vm schedule web-1 --off'
  )
}

/** Undefined where only looking was asked for. Throws E_BAD_REQUEST for options that do not go together. */
function scheduleOf(options: Options): BackupSchedule | undefined {
  const { target, every, cron, timeZone, jitter, quiesce, limit, off } = options
  const keep = retentionOf(options)
  const given = [target, every, cron, timeZone, jitter, quiesce, limit, keep].some((one) => one !== undefined)
  if (!given) return undefined
  if (off) throw new HostletError('E_BAD_REQUEST', '--off stands alone: it ends the schedule.')
  if (target === undefined || (every === undefined) === (cron === undefined))
    throw new HostletError('E_BAD_REQUEST', 'a schedule needs --target, and either --every or --cron.')
  return {
    target,
    ...(every === undefined ? {} : { everyMs: parseDuration(every) }),
    ...(cron === undefined ? {} : { cron }),
    ...(timeZone === undefined ? {} : { timeZone }),
    ...(jitter === undefined ? {} : { jitterMs: parseDuration(jitter) }),
    ...(quiesce === undefined ? {} : { quiesce }),
    ...(limit === undefined ? {} : { limits: { bytesPerSecond: parseBytes(limit) } }),
    ...(keep === undefined ? {} : { keep })
  }
}

async function turnOff(session: Session, name: string, path: string, options: Options): Promise<void> {
  const request = { method: 'DELETE', path, signal: session.signal } as const
  await operate(session, request, {
    options,
    done: () => `VM ${name} is backed up no more by itself. Its backups stay.`
  })
}

async function show({ cli, client, signal }: Session, path: string): Promise<void> {
  const view = await client.ask({ method: 'GET', path, signal }, 'BackupScheduleView')
  cli.show(view, () => renderFields(fields(view, cli.clock.now()), cli.colour))
}

function fields(
  { vm, schedule, lastRun }: BackupScheduleView,
  nowMs: number
): readonly (readonly [string, string | undefined])[] {
  return [
    ['VM', vm],
    ['schedule', schedule === null ? 'none set here' : rhythmText(schedule)],
    ['target', schedule?.target],
    ['keeps', schedule === null ? undefined : schedule.keep ? retentionText(schedule.keep) : 'everything'],
    ['quiesce', schedule?.quiesce],
    ['limit', schedule?.limits?.bytesPerSecond && formatRate(schedule.limits.bytesPerSecond)],
    ['last run', lastRun === undefined ? 'never' : formatTime(lastRun.startedAt)],
    ['last target', lastRun?.target === schedule?.target ? undefined : lastRun?.target],
    ['ended', lastRun && runText(lastRun)],
    ['next', schedule === null ? undefined : nextText(lastRun?.nextAt, nowMs)]
  ].map(([key, value]) => [String(key), value === undefined ? undefined : String(value)] as const)
}

function runText({
  error,
  snapshot,
  startedAt,
  finishedAt
}: NonNullable<BackupScheduleView['lastRun']>): string {
  const took = formatDuration(finishedAt - startedAt)
  return error === undefined
    ? `good after ${took}: ${snapshot ?? ''}`
    : `${error.code} after ${took}: ${error.message}`
}

/** Told with the end of each run only: its host may be away, or the first run of a new schedule not be over yet. */
function nextText(nextAt: number | undefined, nowMs: number): string | undefined {
  if (nextAt === undefined) return 'its host says so after the next run'
  return nextAt < nowMs ? `was to be ${formatTime(nextAt)}, nothing is known of it yet` : formatTime(nextAt)
}

function rhythmText({ everyMs, cron, timeZone }: BackupSchedule): string {
  if (everyMs !== undefined) return `every ${roundText(formatDuration(everyMs))}`
  return `at "${cron ?? ''}"${timeZone === undefined ? '' : ` (${timeZone})`}`
}

/** Without the last unit where there is none of it: `6h`, not `6h0m`. */
function roundText(duration: string): string {
  return duration.replace(/(?<=[a-z])0[smh]$/, '')
}
