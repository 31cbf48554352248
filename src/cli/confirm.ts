// A question before what cannot be taken back; asked on a terminal only, where somebody can answer.

import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import { HostletError } from '../errors.ts'
import type { Session } from './client-command.ts'
import { plain } from './table.ts'

export interface Question {
  /** Without the `[y/N]`. */
  readonly text: string
  /** What stays as it is when the answer is no. */
  readonly leftAlone: string
}

export interface ConfirmOptions {
  readonly yes?: boolean
  readonly dryRun?: boolean
}

export function yesOption(command: Command): Command {
  return command.option('-y, --yes', 'do not ask (it asks only on a terminal)')
}

/** The option of what `confirmLasting` asks about. */
export function yesToLastingOption(command: Command): Command {
  return command.option('-y, --yes', 'do not ask; without a terminal what cannot be taken back needs it')
}

/**
 * For what cannot be taken back: asks on a terminal; elsewhere, where nobody can answer, it takes `--yes`. Throws
 * E_CANCELLED, and E_BAD_REQUEST with `text` of what would have been asked.
 */
export async function confirmLasting(
  session: Session,
  options: ConfirmOptions,
  question: Question
): Promise<void> {
  if (asks(session, options)) return await confirm(session, question)
  if (options.yes === true || options.dryRun === true) return
  throw new HostletError(
    'E_BAD_REQUEST',
    `this cannot be taken back, and there is no terminal to ask on: ${question.text} ${question.leftAlone} was left alone. Give --yes to go ahead, or --dry-run to see what would be done.`
  )
}

/** True where `confirm` would ask. */
export function asks({ cli }: Pick<Session, 'cli'>, options: ConfirmOptions): boolean {
  return options.yes !== true && options.dryRun !== true && process.stdin.isTTY === true && cli.noteTerminal
}

/** Resolves when the answer is yes. Throws E_CANCELLED, and the signal's reason. */
export async function confirm({ signal }: Pick<Session, 'signal'>, question: Question): Promise<void> {
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = await lines.question(`${plain(question.text)} [y/N] `, { signal })
    if (/^y(es)?$/i.test(answer.trim())) return
  } finally {
    lines.close()
  }
  throw new HostletError('E_CANCELLED', `${question.leftAlone} was left alone.`)
}
