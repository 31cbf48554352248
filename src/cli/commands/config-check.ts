// hostlet config check FILE: every fault with its line, or the configuration as it takes effect; of a policy also its owner and mode.

import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { type AgentConfig, AgentConfigSchema, loadAgentConfig } from '../../agent/config.ts'
import { loadPolicy, type Policy, PolicySchema } from '../../agent/policy/policy.ts'
import { HostletError } from '../../errors.ts'
import { loadSchedulerConfig, type SchedulerConfig, SchedulerConfigSchema } from '../../scheduler/config.ts'
import { type OutputFormat, outputFormats } from '../cli.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { configExitCode } from '../exit-codes.ts'
import { ExitStatus } from '../exit-status.ts'

const kinds = ['agent', 'scheduler', 'policy'] as const
type Kind = (typeof kinds)[number]

interface Options {
  readonly as?: Kind
  readonly output: OutputFormat
}

const loaders: Readonly<Record<Kind, (path: string) => AgentConfig | SchedulerConfig | Policy>> = {
  // Without the environment: the file is what is being checked.
  agent: (path) => loadAgentConfig(path, {}),
  scheduler: (path) => loadSchedulerConfig(path),
  // As the agent does: who may have written it is looked at too.
  policy: (path) => loadPolicy(resolve(path))
}

const goodTexts: Readonly<Record<Kind, string>> = {
  agent: 'a valid configuration of the agent',
  scheduler: 'a valid configuration of the scheduler',
  policy: 'a valid policy of a host. Files that it names are read when they are needed'
}

export const define: Define = (command, cli) => {
  command
    .argument('<file>', 'configuration of an agent or a scheduler, or a policy of a host')
    .addOption(command.createOption('--as <kind>', 'what it is for, where that is not plain').choices(kinds))
    .addOption(
      command
        .createOption('-o, --output <format>', 'json prints the configuration with its defaults')
        .choices(outputFormats)
        .default('table')
    )
  examples(
    command,
    'hostlet config check /etc/hostlet/agent.yaml',
    'hostlet config check /etc/hostlet/policy.yaml',
    'hostlet config check scheduler.yaml -o json'
  )
  command.action((file: string, options: Options) => {
    cli.format = options.output
    const kind = options.as ?? kindOf(file)
    const config = check(() => loaders[kind](file))
    cli.show({ file, kind, config }, () => [`${file}: ${goodTexts[kind]}.`])
  })
}

/** By the keys of its first level: whichever schema knows more of them. Faults are then told by that schema. */
function kindOf(file: string): Kind {
  const keys = [...readText(file).matchAll(/^([A-Za-z]+)\s*:/gm)].map((match) => match[1] ?? '')
  const known = ({ properties }: { properties: object }) =>
    keys.filter((key) => Object.hasOwn(properties, key)).length
  const counts = {
    agent: known(AgentConfigSchema),
    scheduler: known(SchedulerConfigSchema),
    policy: known(PolicySchema)
  }
  return kinds.reduce((best, kind) => (counts[kind] > counts[best] ? kind : best))
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    // The loader finds the same, and says it better.
    return ''
  }
}

function check<Config>(load: () => Config): Config {
  try {
    return load()
  } catch (error) {
    if (error instanceof HostletError && error.code === 'E_BAD_REQUEST')
      throw new ExitStatus(configExitCode, error)
    throw error
  }
}
