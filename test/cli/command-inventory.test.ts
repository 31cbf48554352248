// Every verb can be asked for on the command line, and every command that asks keeps to the same manners.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Command } from 'commander'
import { verbs } from '../../src/agent/verbs/registry.ts'
import { Cli } from '../../src/cli/cli.ts'
import { commands } from '../../src/cli/commands.ts'

/** Which command asks for a verb. */
const askedBy: Readonly<Record<string, string>> = {
  'vm.provision': 'vm create',
  'vm.start': 'vm start',
  'vm.stop': 'vm stop',
  'vm.reboot': 'vm reboot',
  'vm.resize': 'vm resize',
  'vm.reimage': 'vm reimage',
  'vm.teardown': 'vm rm',
  'vm.undelete': 'vm undelete',
  // Begun by the host itself when the days of a kept VM are over; "vm rm" has it at once.
  'vm.erase': 'vm rm',
  'vm.rekey': 'vm rekey',
  'vm.adopt-keys': 'vm recover-keys',
  'vm.backup': 'vm backup',
  'vm.restore': 'vm restore',
  'vm.backup-schedule': 'vm schedule',
  'backup.list': 'backup find',
  'backup.verify': 'backup verify',
  'backup.prune': 'backup prune',
  'backup.export': 'backup export',
  'vm.state': 'vm refresh',
  'vm.specification': 'vm export',
  'vm.audit': 'vm audit',
  'vm.console': 'vm console',
  'vm.repair': 'vm repair',
  'vm.list': 'host vms',
  'image.prefetch': 'image prefetch',
  'operation.cancel': 'op cancel',
  // And "--dry-run" of every command that changes something.
  'operation.plan': 'diff',
  'host.facts': 'host refresh',
  'host.clean': 'host clean',
  'host.rotate-key': 'host rotate-key',
  'host.drain': 'host drain',
  'host.resume': 'host resume'
}

/** Answers with what it has asked for, and follows no operation to its own end. */
const notFollowed: ReadonlySet<string> = new Set(['vm export', 'diff', 'vm console'])
/** Looks or ends something: there is nothing to foresee. */
const noDryRun: ReadonlySet<string> = new Set(['vm audit', 'vm export', 'vm console', 'diff', 'op cancel'])
/** What is gone afterwards does not come back. */
const destroys = [
  ...[
    'vm rm',
    'vm reimage',
    'vm restore',
    'vm forget',
    'host rm',
    'host clean',
    'host settle',
    'backup prune'
  ],
  ...['backup rewrap', 'key rm', 'rotate ca', 'rotate command-key', 'audit accept', 'apply', 'approve']
]

async function declared(words: string): Promise<{ command: Command; help: string }> {
  const entry = commands.find((each) => each.words.join(' ') === words)
  assert.ok(entry, `there is no command "${words}"`)
  const { define } = await entry.load()
  let help = ''
  const command = new Command(words.split(' ').at(-1)).configureOutput({ writeOut: (text) => (help += text) })
  define(command, new Cli())
  command.outputHelp()
  return { command, help }
}

function optionsOf(command: Command): ReadonlySet<string> {
  return new Set(command.options.flatMap(({ long, short }) => [long ?? '', short ?? '']))
}

describe('the commands', () => {
  it('are one for each verb that there is', () => {
    assert.deepEqual(Object.keys(askedBy).sort(), verbs.map(({ name }) => name).sort())
  })

  for (const { words } of commands) {
    const name = words.join(' ')
    it(`"${name}" has examples that begin with it`, async () => {
      const { help } = await declared(name)
      const examples = help.split('\nExamples:\n')[1] ?? ''
      assert.match(examples, new RegExp(`^ {2}.*hostlet ${name}\\b`, 'm'), help)
    })
  }

  for (const [verb, name] of Object.entries(askedBy)) {
    it(`"${name}", which asks for ${verb}, answers programs too, waits or not, and can be tried dry`, async () => {
      const options = optionsOf((await declared(name)).command)
      assert.ok(options.has('--output') && options.has('-o'), 'has no -o')
      if (!notFollowed.has(name))
        assert.ok(options.has('--no-wait') && options.has('--wait'), 'has no --no-wait')
      if (!noDryRun.has(name)) assert.ok(options.has('--dry-run'), 'has no --dry-run')
    })
  }

  for (const name of destroys) {
    it(`"${name}" asks first, and takes --yes`, async () => {
      assert.ok(optionsOf((await declared(name)).command).has('--yes'), 'has no --yes')
    })
  }
})
