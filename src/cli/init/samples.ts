// The commented samples of configurations that come with the program.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export function agentSample(): string | undefined {
  return textOf(join(import.meta.dirname, '../../../config/agent.yaml'))
}

export function schedulerSample(): string | undefined {
  return textOf(join(import.meta.dirname, '../../../config/scheduler.yaml'))
}

/** Undefined where it was not brought along: then a configuration has what was chosen, and nothing else. */
function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
