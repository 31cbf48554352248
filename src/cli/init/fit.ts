// What is told of the checks before a machine becomes a host, and whether the set-up goes on.

import type { Cli } from '../cli.ts'
import { doctorExitCode, planExitCodes } from '../exit-codes.ts'
import { findingLines } from '../findings.ts'
import type { InitOptions } from './options.ts'
import type { Preflight } from './preflight.ts'

type Told = Pick<Cli, 'note' | 'noteTerminal' | 'colour' | 'exitStatus'>

/** Whether it may go on; what is wrong has been told. */
export function isFit(
  { failures, warnings }: Pick<Preflight, 'failures' | 'warnings'>,
  { force, dryRun }: InitOptions,
  cli: Told
): boolean {
  if (failures.length + warnings.length > 0) {
    const colour = cli.noteTerminal && cli.colour
    cli.note(...findingLines([...failures, ...warnings], { verbose: true, cli: { colour } }))
  }
  if (failures.length === 0) {
    if (dryRun === true)
      cli.note(warnings.length === 0 ? 'Nothing is in the way.' : 'Nothing of that is in the way.')
    return true
  }
  if (force === true) {
    cli.note('', `Going on in spite of ${failures.length} that failed, as --force says.`)
    return true
  }
  cli.exitStatus = dryRun === true ? planExitCodes.refused : doctorExitCode
  const failed = failures.length === 1 ? '1 check' : `${failures.length} checks`
  const would = dryRun === true ? 'It would stop here' : 'Nothing was changed'
  const mend = failures.length === 1 ? 'Mend that' : 'Mend them'
  cli.note('', `${would}: ${failed} failed. ${mend} and run this again, or go on with --force.`)
  return false
}
