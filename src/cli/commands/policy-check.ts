// hostlet policy check [FILE]: every fault of a host's policy, or its rules in words; with --verb those for one command.

import { resolve } from 'node:path'
import { explain, rulesOf } from '../../agent/policy/explain.ts'
import { policyPath } from '../../agent/policy/paths.ts'
import { loadPolicy, type Policy } from '../../agent/policy/policy.ts'
import { HostletError } from '../../errors.ts'
import { type outputFormats, outputOption } from '../cli.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { configExitCode } from '../exit-codes.ts'
import { ExitStatus } from '../exit-status.ts'

interface Options {
  readonly verb?: string
  readonly vm?: string
  readonly output: (typeof outputFormats)[number]
}

export const define: Define = (command, cli) => {
  command
    .argument('[file]', 'the policy', policyPath)
    .option('--verb <verb>', 'what is asked of this verb, such as vm.teardown')
    .option('--vm <vm>', 'of a command for this VM, by name; with --verb')
    .addOption(outputOption(command))
  examples(command, 'hostlet policy check', 'hostlet policy check policy.yaml --verb vm.teardown --vm prod-1')
  command.action(async (given: string, options: Options) => {
    cli.format = options.output
    const file = resolve(given)
    const policy = check(file)
    await mustBelieveKeys(policy, file)
    const { verb, vm } = options
    if (verb === undefined) {
      const rules = policy.commands === undefined ? [] : rulesOf(policy.commands)
      cli.show({ file, rules }, () => overview(file, policy, rules))
      return
    }
    await mustBeVerb(verb)
    const asked = policy.commands === undefined ? [] : explain(policy.commands, { verb, ...(vm && { vm }) })
    const what = `${verb}${vm === undefined ? '' : ` of VM ${vm}`}`
    cli.show({ file, verb, vm, asked }, () =>
      asked.length === 0
        ? [`${what}: no rule of ${file} is about it. A command that is signed is obeyed.`]
        : [`${what}:`, ...asked.map((line) => `  ${line}`)]
    )
  })
}

function overview(file: string, policy: Policy, rules: readonly string[]): string[] {
  const repositories = Object.keys(policy.repositories).join(', ')
  return [
    `${file}: a valid policy.`,
    `backups: ${repositories === '' ? 'none, for it names no repository' : `into ${repositories}`}`,
    `recovery keys: ${policy.recovery.length}`,
    rules.length === 0
      ? 'commands: no rules. Every command that is signed is obeyed.'
      : 'commands, whoever signs them:',
    ...rules.map((rule) => `  ${rule}`),
    'Not asked: what the host does by itself, which is to back up and prune by the schedules of VMs, and to erase VMs whose days of being kept are over.'
  ]
}

function check(file: string): Policy {
  try {
    return loadPolicy(file)
  } catch (error) {
    if (error instanceof HostletError && error.code === 'E_BAD_REQUEST')
      throw new ExitStatus(configExitCode, error)
    throw error
  }
}

async function mustBelieveKeys({ commands }: Policy, file: string): Promise<void> {
  const { keyOf } = await import('../../agent/policy/approvals.ts')
  for (const [name, source] of Object.entries(commands?.approvals?.approvers ?? {})) keyOf(name, source, file)
}

async function mustBeVerb(verb: string): Promise<void> {
  const { verbs } = await import('../../agent/verbs/registry.ts')
  const names = verbs.map(({ name }) => name)
  if (names.includes(verb)) return
  const { suggestion } = await import('../../lib/suggestion.ts')
  const near = suggestion(verb, names)
  throw new HostletError(
    'E_NOT_FOUND',
    `there is no verb ${verb}${near === undefined ? '' : ` (did you mean "${near}"?)`}. There are ${names.join(', ')}.`
  )
}
