// Exit statuses: those of the error codes, and the few that are no error's. Printed by `hostlet --help`.

import { type ErrorCode, errorCodes } from '../errors.ts'

/** Ctrl-C or SIGTERM, as a shell would count it. */
export const interruptedExitCode = 130
/** EX_CONFIG of sysexits: the unit of agent and scheduler does not restart after it. */
export const configExitCode = 78
/** "hostlet doctor", "hostlet vm audit" and "hostlet audit verify" found what should not be; they themselves did their work. */
export const doctorExitCode = 3

/** Of "--dry-run" and "hostlet diff": whatever went wrong is 1 there, so that 2 means one thing only. */
export const planExitCodes = { nothing: 0, refused: 1, changes: 2 } as const

const meanings: Readonly<Record<number, string>> = {
  0: 'done',
  1: 'failed on the host, or a bug',
  2: 'bad request: wrong usage, or not supported',
  [doctorExitCode]: 'doctor or audit found a fault',
  4: 'not found',
  5: 'conflict with what exists, or stale',
  6: 'not allowed: key, token or certificate',
  7: 'try again later: busy, unreachable or full',
  8: 'outcome unknown: timed out, interrupted or cancelled; look first',
  [configExitCode]: 'bad configuration of agent or scheduler',
  [interruptedExitCode]: 'Ctrl-C: detached, what was begun goes on'
}

const dryRunHelp =
  '  With --dry-run, and of diff: 0 nothing to change, 2 something would change, 1 it failed or would be refused.'

export function exitCodeHelp(): string {
  const lines = Object.entries(meanings).map(([status, meaning]) => {
    const codes = Object.entries(errorCodes)
      .filter(([, entry]) => entry.exitCode === Number(status))
      .map(([code]) => code as ErrorCode)
    return `  ${status.padStart(3)}  ${meaning}${codes.length === 0 ? '' : ` (${codes.join(' ')})`}`
  })
  return ['Exit status:', ...lines, dryRunHelp].join('\n')
}
