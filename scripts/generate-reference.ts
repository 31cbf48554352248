// Writes docs/reference/ from the declarations: commands, configuration and API. Run: node scripts/generate-reference.ts

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AgentConfigSchema, agentConfigPath } from '../src/agent/config.ts'
import { policyPath } from '../src/agent/policy/paths.ts'
import { PolicySchema } from '../src/agent/policy/policy.ts'
import { SchedulerConfigSchema, schedulerConfigPath } from '../src/scheduler/config.ts'
import { apiPage } from './reference/api-page.ts'
import { cliPage } from './reference/cli-page.ts'
import { configPage } from './reference/config-page.ts'

const root = join(import.meta.dirname, '..')
export const referenceDirectory = join(root, 'docs', 'reference')

/** Every page by its file's name. */
export async function referencePages(): Promise<ReadonlyMap<string, string>> {
  return new Map([
    [
      'agent-yaml.md',
      configPage({
        title: 'Configuration of the agent',
        path: agentConfigPath,
        schema: AgentConfigSchema,
        sample: sample('agent.yaml')
      })
    ],
    [
      'scheduler-yaml.md',
      configPage({
        title: 'Configuration of the scheduler',
        path: schedulerConfigPath,
        schema: SchedulerConfigSchema,
        sample: sample('scheduler.yaml')
      })
    ],
    [
      'policy-yaml.md',
      configPage({
        title: 'Policy of a host',
        path: policyPath,
        schema: PolicySchema,
        sample: sample('policy.yaml')
      })
    ],
    ['api.md', apiPage()],
    ['commands.md', await cliPage()]
  ])
}

function sample(name: string): string {
  return readFileSync(join(root, 'config', name), 'utf8')
}

if (import.meta.main) {
  mkdirSync(referenceDirectory, { recursive: true })
  for (const [name, text] of await referencePages()) writeFileSync(join(referenceDirectory, name), text)
}
