// Completion: what may come next on a line that is being typed, and that the shells take it.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { Cli } from '../../src/cli/cli.ts'
import { commands, groups } from '../../src/cli/commands.ts'
import { candidates } from '../../src/cli/completion/candidates.ts'
import { completionScripts, shells } from '../../src/cli/completion/scripts.ts'
import type { OperationReply } from '../../src/protocol/api.ts'
import { vmSummary } from '../scheduler/support/samples.ts'
import { TestFleet } from './fleet.ts'
import { environment, hostlet, mainPath } from './program.ts'

const cli = new Cli({ environment: { HOME: '/nonexistent' } })

async function valuesAfter(...words: readonly string[]): Promise<string[]> {
  return (await candidates(words, cli)).map(({ value }) => value)
}

describe('completion', () => {
  it('knows every command, with what help says of it', async () => {
    const first = await candidates([''], cli)
    assert.deepEqual(
      new Set(first.map(({ value }) => value)),
      new Set(commands.map(({ words }) => words[0] ?? ''))
    )
    assert.equal(first.find(({ value }) => value === 'vm')?.description, groups.vm)
    assert.deepEqual(await valuesAfter('vm', 'st'), ['start', 'stop'])
  })

  it('knows the options of a command, but for those that stand there already', async () => {
    const options = await valuesAfter('vm', 'stop', '--force', 'web-1', '--')
    assert.ok(options.includes('--grace'))
    assert.ok(options.includes('--help'))
    assert.deepEqual(await valuesAfter('vm', 'stop', '--grace', '5s', '--gr'), [])
  })

  it('knows the values that an option or an argument can have', async () => {
    assert.deepEqual(await valuesAfter('vm', 'ls', '-o', ''), ['table', 'json'])
    assert.deepEqual(await valuesAfter('vm', 'ls', '--output=j'), ['--output=json'])
    assert.deepEqual(await valuesAfter('key', 'create', 'm'), ['manage'])
    assert.deepEqual(await valuesAfter('key', 'create', 'manage', ''), [])
  })

  it('leaves files to the shell', async () => {
    assert.deepEqual(await valuesAfter('config', 'check', '/etc/ho'), [':files'])
    assert.deepEqual(await valuesAfter('vm', 'ls', '--ca-file', ''), [':files'])
  })

  it('has no name for what is to be made, nor where no scheduler is known', async () => {
    assert.deepEqual(await valuesAfter('vm', 'create', ''), [])
    assert.deepEqual(await valuesAfter('vm', 'stop', ''), [])
  })

  it('says nothing of what it cannot make sense of', async () => {
    for (const words of [['nonsense', ''], ['vm', 'nonsense', ''], ['vm', 'stop', '--no', 'x', 'y', ''], []])
      assert.doesNotReject(valuesAfter(...words))
    const { status, stderr } = await hostlet(['__complete', 'vm', 'stop', '--scheduler', 'nonsense', ''])
    assert.deepEqual([status, stderr], [0, ''])
  })
})

describe('completion with a scheduler', () => {
  let fleet: TestFleet
  before(async () => {
    fleet = await TestFleet.start()
  })
  after(async () => {
    await fleet?.[Symbol.asyncDispose]()
  })

  it('knows the hosts', async () => {
    const { stdout } = await fleet.hostlet('__complete', 'host', 'show', 'kvm')
    assert.equal(stdout, 'kvm-1\tconnected\n')
    for (const words of [
      ['vm', 'ls'],
      ['vm', 'create', 'web-1'],
      ['op', 'ls']
    ])
      assert.match((await fleet.hostlet('__complete', ...words, '--host', '')).stdout, /^kvm-1\t/)
  })

  it('knows hosts and VMs to ask why about, and the newest operations with what they are', async () => {
    fleet.agent.sendInventory({ vms: [vmSummary({ name: 'web-1' })] })
    await fleet.agent.sync()
    assert.match((await fleet.hostlet('__complete', 'why', '')).stdout, /^web-1\t.*\nkvm-1\tconnected\n$/)
    const begun = await fleet.hostlet('vm', 'stop', 'web-1', '--no-wait', '-o', 'json')
    const { operation } = JSON.parse(begun.stdout) as OperationReply
    await fleet.agent.nextCommand()
    const planned = fleet.hostlet('vm', 'start', 'web-1', '--dry-run')
    const { claims } = await fleet.agent.nextCommand()
    fleet.agent.acknowledge(claims.id)
    fleet.agent.finish(claims.id, { changes: false })
    await planned
    const expected = `${operation.id}\tvm.stop web-1, sent\n`
    for (const words of [['op', 'show'], ['op', 'wait'], ['op', 'cancel'], ['op', 'placement'], ['approve']])
      assert.equal((await fleet.hostlet('__complete', ...words, '')).stdout, expected, words.join(' '))
  })
})

describe('a script for each shell', () => {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-completion-'))
  after(() => rmSync(directory, { recursive: true }))
  writeFileSync(join(directory, 'hostlet'), `#!/bin/sh\nexec ${process.execPath} ${mainPath} "$@"\n`)
  chmodSync(join(directory, 'hostlet'), 0o755)

  it('is printed as it is', async () => {
    for (const shell of shells)
      assert.equal((await hostlet(['completion', shell])).stdout, completionScripts[shell])
    assert.equal((await hostlet(['completion', 'tcsh'])).status, 2)
  })

  it('makes bash complete words, and files, also behind "="', () => {
    const try_ = (line: string) =>
      `COMP_LINE='${line}' COMP_POINT=${line.length} _hostlet; echo "\${COMPREPLY[*]}"`
    const script = [
      'source <(hostlet completion bash)',
      try_('hostlet vm st'),
      try_('hostlet vm ls --output='),
      try_('hostlet config check /etc/passw'),
      try_('hostlet vm nonsense '),
      try_('hostlet vm ls --ca-file=/etc/hostna')
    ].join('\n')
    const env = environment({ PATH: `${directory}:${process.env.PATH}` })
    const { stdout, stderr } = spawnSync('bash', ['--norc', '-c', script], { encoding: 'utf8', env })
    assert.equal(stderr, '')
    const [commandsFound, values, files, none, assigned] = stdout.split('\n')
    assert.equal(commandsFound, 'start stop')
    assert.equal(values, 'table json')
    assert.match(files ?? '', /\/etc\/passwd/)
    assert.equal(none, '')
    assert.match(assigned ?? '', /^\/etc\/hostname/)
  })
})
