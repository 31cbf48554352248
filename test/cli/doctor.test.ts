// hostlet doctor on this machine, whatever that is like: each check once, a fix with each fault, and the exit status that follows.

import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { checkGroups, type Finding } from '../../src/agent/doctor/checks.ts'
import { hostlet } from './program.ts'

const directory = mkdtempSync(join(tmpdir(), 'hostlet-doctor-'))
const config = join(directory, 'agent.yaml')
writeFileSync(
  config,
  `stateDirectory: ${directory}\nruntimeDirectory: /dev/shm\nlibvirt: {socket: ${directory}/none}\n`
)
chmodSync(directory, 0o755)

describe('hostlet doctor', () => {
  after(() => rmSync(directory, { recursive: true, force: true }))

  it('tells each check once, and ends with 3 when one fails', async () => {
    const { status, stdout, stderr } = await hostlet(['doctor', '--config', config, '-o', 'json'])
    assert.equal(stderr, '')
    assert.equal(status, 3)
    const { findings, counts } = JSON.parse(stdout) as { findings: Finding[]; counts: Record<string, number> }
    assert.deepEqual(
      findings.map(({ id }) => id),
      checkGroups.flatMap(({ checks }) => checks.map(({ id }) => id))
    )
    const found = (id: string) => findings.find((finding) => finding.id === id)
    assert.equal(found('libvirt')?.status, 'failed', 'a socket that is not there')
    assert.equal(found('autostart')?.status, 'skipped', 'nobody to ask')
    assert.equal(found('state-directory')?.status, 'failed', 'a directory that is open')
    assert.equal(found('runtime-directory')?.status, 'ok')
    for (const { status: each, fix } of findings)
      assert.equal(fix !== undefined, each === 'warning' || each === 'failed')
    assert.equal(counts.failed, findings.filter(({ status: each }) => each === 'failed').length)
  })

  it('tells people what is wrong, each with a command that mends it, and counts the rest', async () => {
    const { status, stdout } = await hostlet(['doctor', '--config', config])
    assert.equal(status, 3)
    assert.match(stdout, / {2}FAILED {3}state directory .*\n {11}run: chmod 700 /)
    assert.match(stdout, /^machine: \d+ ok/m)
    assert.doesNotMatch(stdout, /^ {2}(ok|skipped) /m)
    assert.match(
      stdout,
      /\d+ failed, \d+ warnings?, \d+ ok, \d+ skipped \("hostlet doctor -v" shows each\)\n$/
    )
    assert.equal(stdout.includes('\u001b'), false)
  })

  it('tells every check with --verbose', async () => {
    const { stdout } = await hostlet(['doctor', '--config', config, '-v'])
    assert.match(stdout, /^ {2}ok {7}runtime directory in memory /m)
    assert.match(stdout, /^ {2}skipped {2}no VM is started by libvirt /m)
    const lines = stdout.split('\n').filter((line) => /^ {2}(ok|warning|FAILED|skipped) /.test(line))
    assert.equal(lines.length, checkGroups.flatMap(({ checks }) => checks).length)
  })

  it('ends with 78 for a configuration that is wrong', async () => {
    writeFileSync(join(directory, 'bad.yaml'), 'stateDirectry: /x\n')
    const { status, stderr } = await hostlet(['doctor', '--config', join(directory, 'bad.yaml')])
    assert.equal(status, 78)
    assert.match(stderr, /did you mean "stateDirectory"/)
  })
})
