// Which snapshots stay, as options: --keep-last 3 --keep-daily 7, in the words of the API.

import type { Command } from 'commander'
import { HostletError } from '../../errors.ts'
import type { Retention } from '../../protocol/backup.ts'
import { parseInteger } from '../quantities.ts'

const countMax = 100_000
const rules = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const
type Rule = (typeof rules)[number]

/** What commander makes of the options. */
export type RetentionOptions = { readonly [Name in Rule as `keep${Capitalize<Name>}`]?: string }

export function retentionOptions(command: Command): Command {
  for (const rule of rules)
    command.option(
      `--keep-${rule} <count>`,
      rule === 'last' ? 'keep the newest so many' : `keep the newest of each of so many ${periods[rule]}`
    )
  return command
}

/** Undefined where no rule is given. Throws E_BAD_REQUEST. */
export function retentionOf(options: RetentionOptions): Retention | undefined {
  const keep: Retention = {}
  for (const rule of rules) {
    const text = options[`keep${rule.charAt(0).toUpperCase()}${rule.slice(1)}` as keyof RetentionOptions]
    if (text !== undefined)
      keep[rule] = parseInteger(text, { what: `--keep-${rule}`, minimum: 0, maximum: countMax })
  }
  return Object.keys(keep).length === 0 ? undefined : keep
}

/** Throws E_BAD_REQUEST where nothing would stay: that would be another command's to say. */
export function requiredRetention(options: RetentionOptions): Retention {
  const keep = retentionOf(options)
  if (keep !== undefined && Object.values(keep).some((count) => count > 0)) return keep
  throw new HostletError(
    'E_BAD_REQUEST',
    'say what to keep: at least one of --keep-last, --keep-hourly, --keep-daily, --keep-weekly, --keep-monthly and --keep-yearly, with 1 or more.'
  )
}

/** `3 last, 7 daily`. */
export function retentionText(keep: Retention): string {
  return rules
    .filter((rule) => keep[rule] !== undefined)
    .map((rule) => `${keep[rule]} ${rule}`)
    .join(', ')
}

const periods: Readonly<Record<Exclude<Rule, 'last'>, string>> = {
  hourly: 'hours',
  daily: 'days',
  weekly: 'weeks',
  monthly: 'months',
  yearly: 'years'
}
