// hostlet doctor: looks at this host from below, without a scheduler, and says what is not as it should be.

import { existsSync } from 'node:fs'
import type { AgentConfig } from '../../agent/config.ts'
import { type Cli, type OutputFormat, outputFormats } from '../cli.ts'
import { examples } from '../client-command.ts'
import { loadOrExit } from '../daemon.ts'
import type { Define } from '../define.ts'
import { doctorExitCode } from '../exit-codes.ts'
import { counts, findingLines, summaryLine } from '../findings.ts'

interface Options {
  readonly config?: string
  readonly output: OutputFormat
  readonly verbose?: boolean
}

const deadlineMs = 120_000

export const define: Define = (command, cli) => {
  command
    .option('--config <file>', 'configuration of the agent (default: /etc/hostlet/agent.yaml)')
    .option('-v, --verbose', 'also what is well and what was skipped, a line each')
    .addOption(
      command.createOption('-o, --output <format>', 'how to print').choices(outputFormats).default('table')
    )
  examples(
    command,
    'hostlet doctor                          as root: all that is wrong, each with what mends it',
    'hostlet doctor -v                       every check',
    'runuser -u hostlet -- hostlet doctor    as the agent: what it can see',
    'hostlet doctor -o json'
  )
  command.addHelpText(
    'after',
    `\nEnds with ${doctorExitCode} when a check fails; warnings and what was skipped do not count.`
  )
  command.action(async (options: Options) => {
    cli.format = options.output
    const config = await configOf(options, cli)
    const { gather } = await import('../../agent/doctor/gather.ts')
    const { examine } = await import('../../agent/doctor/checks.ts')
    const findings = await cli.interruptible(async (signal) => {
      const wait = { signal: AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]) }
      return examine(await gather(config, wait))
    })
    const { verbose = false } = options
    cli.show({ findings, counts: counts(findings) }, () => [
      ...findingLines(findings, { verbose, cli }),
      '',
      summaryLine(findings, verbose)
    ])
    if (findings.some(({ status }) => status === 'failed')) cli.exitStatus = doctorExitCode
  })
}

/** Before the host has a configuration it is looked at by the defaults. */
async function configOf({ config: path }: Options, cli: Cli): Promise<AgentConfig> {
  const { AgentConfigSchema, agentConfigPath, loadAgentConfig } = await import('../../agent/config.ts')
  if (path !== undefined || existsSync(agentConfigPath)) return loadOrExit(() => loadAgentConfig(path))
  cli.note(`There is no ${agentConfigPath} yet: this goes by the defaults.`)
  const { parseConfigText } = await import('../../lib/config-file.ts')
  return parseConfigText('', agentConfigPath, AgentConfigSchema)
}
