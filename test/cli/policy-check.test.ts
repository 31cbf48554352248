// hostlet policy check: the rules of a host in words, what they ask of one command, and where the file is wrong.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { hostlet } from './program.ts'

const commands = `commands:
  forbid: [backup.export]
  limits: { vm: { cpusMax: 4 } }
  teardown: [{ vms: [prod-*], requireRetainDays: 7, keepBackups: true }]
  rates: [{ verbs: [vm.teardown, vm.reimage], max: 3, per: 1h }]
  approvals:
    approvers: { alice: { jwk: { kty: OKP, crv: Ed25519, x: hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo } } }
    require: [{ verbs: [vm.reimage], vms: [prod-*] }]
`

describe('hostlet policy check', () => {
  let directory: string
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-policy-check-'))
  })
  after(() => rmSync(directory, { recursive: true }))

  function write(text: string): string {
    const path = join(directory, 'policy.yaml')
    writeFileSync(path, text, { mode: 0o600 })
    return path
  }

  it('tells the rules of the sample in words', async () => {
    const text = readFileSync(join(import.meta.dirname, '../../config/policy.yaml'), 'utf8')
    const { status, stdout, stderr } = await hostlet(['policy', 'check', write(text)])
    assert.equal(status, 0, stderr)
    assert.match(stdout, /a valid policy\.\nbackups: into offsite, nearby\nrecovery keys: 1\n/)
    assert.match(stdout, /^ {2}teardown keeps the VM for 7 days$/m)
    assert.match(stdout, /^ {2}5 of vm\.teardown, .* in 1h$/m)
    assert.match(stdout, /^Not asked: what the host does by itself/m)
  })

  it('tells what is asked of one command, by VM', async () => {
    const path = write(commands)
    const asked = async (...words: string[]) => {
      const { status, stdout, stderr } = await hostlet(['policy', 'check', path, '-o', 'json', ...words])
      assert.equal(status, 0, stderr)
      return JSON.parse(stdout).asked
    }
    const rate = '3 of vm.teardown, vm.reimage in 1h'
    assert.deepEqual(await asked('--verb', 'vm.teardown', '--vm', 'web-1'), [rate])
    assert.deepEqual(await asked('--verb', 'vm.teardown', '--vm', 'prod-1'), [
      'teardown of prod-* keeps the VM for 7 days and keeps backups',
      rate
    ])
    assert.deepEqual(await asked('--verb', 'vm.reimage', '--vm', 'prod-1'), [
      rate,
      'vm.reimage of prod-* wants 1 of the approvers alice'
    ])
    assert.deepEqual(await asked('--verb', 'backup.export'), [
      'refused: backup.export is forbidden (backup.export)'
    ])
    assert.deepEqual(await asked('--verb', 'vm.stop', '--vm', 'prod-1'), [])
  })

  it('names the place of a fault, a verb that nobody has, and a file of others', async () => {
    const broken = await hostlet(['policy', 'check', write(commands.replace('rates:', 'rate:'))])
    assert.equal(broken.status, 78)
    assert.match(
      broken.stderr,
      /policy\.yaml:5:3: expected a known key, not "rate" \(did you mean "rates"\?\)/
    )
    const unknown = await hostlet(['policy', 'check', write(commands), '--verb', 'vm.teardwon'])
    assert.equal(unknown.status, 4)
    assert.match(unknown.stderr, /did you mean "vm\.teardown"/)
    const missing = await hostlet(['policy', 'check', join(directory, 'none.yaml')])
    assert.equal(missing.status, 6)
  })
})
