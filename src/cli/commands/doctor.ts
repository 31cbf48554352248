// hostlet doctor: looks at this host from below, without a scheduler, and says what is not as it should be.

import type { Finding } from '../../agent/doctor/checks.ts'
import type { Cli } from '../cli.ts'
import { type OutputFormat, outputFormats } from '../cli.ts'
import { examples } from '../client-command.ts'
import { loadOrExit } from '../daemon.ts'
import type { Define } from '../define.ts'
import { doctorExitCode } from '../exit-codes.ts'
import { paint, plain, type Style } from '../table.ts'

interface Options {
  readonly config: string
  readonly output: OutputFormat
}

const deadlineMs = 120_000
const styles: Readonly<Record<Finding['status'], Style>> = {
  pass: 'green',
  warn: 'yellow',
  fail: 'red',
  skip: 'dim'
}

export const define: Define = (command, cli) => {
  command
    .option('--config <file>', 'configuration of the agent', '/etc/hostlet/agent.yaml')
    .addOption(
      command.createOption('-o, --output <format>', 'how to print').choices(outputFormats).default('table')
    )
  examples(
    command,
    'hostlet doctor                          as root: everything',
    'runuser -u hostlet -- hostlet doctor    as the agent: what it can see',
    'hostlet doctor -o json'
  )
  command.addHelpText(
    'after',
    `\nEnds with ${doctorExitCode} when a check fails; warnings and what was skipped do not count.`
  )
  command.action(async (options: Options) => {
    cli.format = options.output
    const { loadAgentConfig } = await import('../../agent/config.ts')
    const config = loadOrExit(() => loadAgentConfig(options.config))
    const { gather } = await import('../../agent/doctor/gather.ts')
    const { examine } = await import('../../agent/doctor/checks.ts')
    const findings = await cli.interruptible(async (signal) => {
      const wait = { signal: AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]) }
      return examine(await gather(config, wait))
    })
    cli.show({ findings, counts: counts(findings) }, () => lines(findings, cli))
    if (findings.some(({ status }) => status === 'fail')) cli.exitStatus = doctorExitCode
  })
}

function counts(findings: readonly Finding[]): Record<Finding['status'], number> {
  const count = (status: Finding['status']) => findings.filter((finding) => finding.status === status).length
  return { pass: count('pass'), warn: count('warn'), fail: count('fail'), skip: count('skip') }
}

function lines(findings: readonly Finding[], cli: Cli): string[] {
  const width = Math.max(...findings.map(({ title }) => title.length))
  const shown = findings.flatMap((finding, index) => {
    const first = findings[index - 1]?.group !== finding.group
    return [
      ...(first ? [...(index > 0 ? [''] : []), `${finding.group}:`] : []),
      ...shownFinding(finding, width, cli)
    ]
  })
  const { pass, warn, fail, skip } = counts(findings)
  return [...shown, '', `${pass} passed, ${warn} warnings, ${fail} failed, ${skip} skipped`]
}

function shownFinding({ status, title, message, fix }: Finding, width: number, cli: Cli): string[] {
  const word = status.toUpperCase()
  const painted = cli.colour ? paint(styles[status], word) : word
  const line = `  ${painted}  ${title.padEnd(width)}  ${plain(message)}`
  return fix === undefined ? [line] : [line, `        fix: ${plain(fix)}`]
}
