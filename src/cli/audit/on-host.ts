// Actions that need no host but may be done on one: into its trail where this machine has one that the caller may write to.

import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import type { LocalFacts } from '../../agent/trail/local-actions.ts'
import { localDirectoryName, trailDirectory } from '../../agent/trail/segments.ts'
import type { Cli } from '../cli.ts'
import { stateDirectoryOf } from './source.ts'

const configDefault = '/etc/hostlet/agent.yaml'

/** As recordedAction does. Elsewhere, as on an operator's own machine, it just acts. */
export async function recordedOnHost<Value>(
  cli: Cli,
  { action, facts }: { readonly action: string; readonly facts: LocalFacts },
  act: () => Promise<Value>
): Promise<Value> {
  const stateDirectory = await writableState()
  if (stateDirectory === undefined) return await act()
  // Loaded on hosts only: it brings the schemas along.
  const { recordedAction } = await import('../../agent/trail/local-actions.ts')
  const { environment, clock } = cli
  return await recordedAction({ stateDirectory, action, facts, environment, now: () => clock.now() }, act)
}

/** Undefined on what is no host, for somebody who may not write there, and where the configuration can't be read: a way out after a disaster must not hang on it. */
async function writableState(): Promise<string | undefined> {
  try {
    const stateDirectory = await stateDirectoryOf({ config: configDefault, output: 'table' })
    accessSync(join(trailDirectory(stateDirectory), localDirectoryName), constants.W_OK)
    return stateDirectory
  } catch {
    return undefined
  }
}
