// The policy of a host: its sample loads, faults say where and what, and a file that somebody else may have written is refused.

import assert from 'node:assert/strict'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { recipientsOf, repositoryOf } from '../../../src/agent/policy/backup-sections.ts'
import { loadPolicy, PolicySchema, parsePolicy } from '../../../src/agent/policy/policy.ts'
import type { HostletError } from '../../../src/errors.ts'
import { parseConfigText } from '../../../src/lib/config-file.ts'

const sample = fileURLToPath(new URL('../../../config/policy.yaml', import.meta.url))
const key = '{ kty: OKP, crv: X25519, x: hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo }'
const smallest = `repositories:\n  main: { url: "file:///srv/backup" }\nrecovery: [{ jwk: ${key} }]\n`

describe('the policy of a host', () => {
  let directory: string
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-policy-'))
  })
  after(() => rmSync(directory, { recursive: true }))

  function write(text: string, mode = 0o644): string {
    const path = join(directory, 'policy.yaml')
    rmSync(path, { force: true })
    writeFileSync(path, text)
    chmodSync(path, mode)
    return path
  }

  function refusal(path: string): { code: string; message: string } {
    try {
      loadPolicy(path)
    } catch (error) {
      const { code, message } = error as HostletError
      return { code, message: message.replaceAll(`${directory}/`, '') }
    }
    throw new assert.AssertionError({ message: 'expected a refusal' })
  }

  it('has a sample that loads', () => {
    const policy = parseConfigText(readFileSync(sample, 'utf8'), sample, PolicySchema)
    assert.deepEqual(Object.keys(policy.repositories), ['offsite', 'nearby'])
    assert.equal(policy.repositories.offsite?.credentials?.systemdCredential, 's3-offsite')
    assert.deepEqual(policy.commands?.teardown, [{ requireRetainDays: 7 }])
  })

  it('has parts in its sample that load once they are no comments any more', () => {
    const [before, commands = ''] = readFileSync(sample, 'utf8').split(/^commands:$/m)
    const opened = commands
      .replace(/^( *)# - /gm, '$1- ')
      .replace(/^( *)# (images:|approvals:|portMappings:)/gm, '$1$2')
      .replace(/^ {2}#( {3,}[a-z-].*)$/gm, '  $1')
      .replace('  forbid: []', '  forbid:')
    const { commands: rules } = parsePolicy(`${before}commands:${opened}`, sample)
    assert.deepEqual(rules?.forbid, ['backup.export'])
    assert.deepEqual(Object.keys(rules?.approvals?.approvers ?? {}), ['alice', 'bob'])
    assert.equal(rules?.teardown.length, 2)
    assert.equal(rules?.images?.digests?.length, 1)
    assert.equal(rules?.limits?.portMappings?.perVmMax, 8)
  })

  it('has nothing that must be there: recovery keys alone are a policy, and take no backups', () => {
    const policy = loadPolicy(write(`recovery: [{ jwk: ${key} }]\n`))
    assert.equal(recipientsOf(policy, { name: 'web-1', uuid: '' }).length, 1)
    assert.throws(() => repositoryOf(policy, 'main'), {
      code: 'E_AUTH',
      message: /takes no backups: its policy names no repository/
    })
    assert.deepEqual(loadPolicy(write('')).repositories, {})
  })

  const approver = '{ jwk: { kty: OKP, crv: Ed25519, x: hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo } }'
  const ruleFaults: readonly (readonly [what: string, text: string, message: RegExp])[] = [
    ['a misspelt rule', '{ forbids: [] }', /did you mean "forbid"/],
    ['a verb that is none', '{ forbid: [Teardown] }', /a verb such as vm\.teardown/],
    ['a time that is none', '{ rates: [{ verbs: [vm.stop], max: 1, per: 1w }] }', /a time such as 90s, 15m/],
    ['a time that is too long', '{ rates: [{ verbs: [vm.stop], max: 1, per: 90d }] }', /at most 31d/],
    ['an image of any host', '{ images: { allow: ["https://*.example.org/x"] } }', /characters of the path/],
    ['an image of half a host', '{ images: { allow: ["https://images.example.org*"] } }', /of the path/],
    [
      'ports in the wrong order',
      '{ limits: { portMappings: { hostPorts: [30-20] } } }',
      /the first one first/
    ],
    [
      'a teardown rule that rules nothing',
      '{ teardown: [{ vms: [prod-*] }] }',
      /requireRetainDays, keepBackups/
    ],
    [
      'an approver whom nobody knows',
      `{ approvals: { approvers: { alice: ${approver} }, require: [{ verbs: [vm.stop], of: [bob] }] } }`,
      /names of "approvers", not "bob"/
    ],
    [
      'more approvals than approvers',
      `{ approvals: { approvers: { alice: ${approver} }, require: [{ verbs: [vm.stop], count: 2 }] } }`,
      /at most 1: there are no more approvers/
    ],
    [
      'one key under two names',
      `{ approvals: { approvers: { alice: ${approver}, bob: ${approver} }, require: [{ verbs: [vm.stop] }] } }`,
      /another key than that of "alice"/
    ],
    [
      'a private key of an approver',
      `{ approvals: { approvers: { alice: ${approver.replace('kty', 'd: x, kty')} }, require: [{ verbs: [vm.stop] }] } }`,
      /expected a known key, not "d"/
    ]
  ]
  for (const [what, text, message] of ruleFaults)
    it(`names the place and the slip of ${what}`, () => {
      const { code, message: said } = refusal(write(`commands: ${text}\n`))
      assert.equal(code, 'E_BAD_REQUEST')
      assert.match(said, /policy\.yaml:1:\d+: expected/)
      assert.match(said, message)
    })

  it('needs no more than a repository and a recovery key', () => {
    const policy = loadPolicy(write(smallest))
    assert.equal(repositoryOf(policy, 'main').url, 'file:///srv/backup')
    assert.deepEqual(policy.unlockKeys, [])
  })

  it('is read anew each time', () => {
    const path = write(smallest)
    assert.throws(() => repositoryOf(loadPolicy(path), 'other'), { code: 'E_NOT_FOUND' })
    write(smallest.replace('main:', 'other:'))
    assert.equal(repositoryOf(loadPolicy(path), 'other').url, 'file:///srv/backup')
  })

  it('says what to do when it is missing, or lacks a repository', () => {
    const missing = refusal(join(directory, 'none.yaml'))
    assert.equal(missing.code, 'E_AUTH')
    assert.match(missing.message, /takes no backups.*An administrator writes one/)
    const policy = loadPolicy(write(smallest))
    assert.throws(() => repositoryOf(policy, 'mian'), {
      code: 'E_NOT_FOUND',
      message: /did you mean "main"\?.*administrator adds it to \/etc\/hostlet\/policy\.yaml/
    })
    assert.throws(() => repositoryOf(policy, 'constructor'), { code: 'E_NOT_FOUND' })
  })

  it('is refused when its group or everybody can write it', () => {
    for (const mode of [0o664, 0o646, 0o666]) {
      const { code, message } = refusal(write(smallest, mode))
      assert.equal(code, 'E_AUTH', mode.toString(8))
      assert.match(message, /can write it \("chmod [go]-w" it\)/)
    }
    assert.equal(Object.keys(loadPolicy(write(smallest, 0o600)).repositories).length, 1)
  })

  it('is refused in a directory in which others can replace it', () => {
    const open = join(directory, 'open')
    mkdirSync(open)
    chmodSync(open, 0o777)
    const path = join(open, 'policy.yaml')
    writeFileSync(path, smallest, { mode: 0o644 })
    assert.match(refusal(path).message, /its directory .* can be written by others/)
    chmodSync(open, 0o1777)
    assert.equal(Object.keys(loadPolicy(path).repositories).length, 1)
  })

  it('is refused when it belongs to somebody else', {
    skip: process.geteuid?.() !== 0 && 'needs root'
  }, () => {
    const path = write(smallest)
    chownSync(path, 4_242, 0)
    assert.match(refusal(path).message, /belongs to user 4242, it has to belong to root/)
    assert.equal(refusal(path).code, 'E_AUTH')
  })

  const faults: readonly (readonly [what: string, text: string, message: RegExp])[] = [
    [
      'a misspelt key',
      smallest.replace('recovery', 'recovry'),
      /policy\.yaml:3:1: .*did you mean "recovery"/
    ],
    [
      'no recovery key',
      'repositories:\n  main: { url: "file:///srv" }\n',
      /policy\.yaml:2:\d+: expected the key "recovery" with at least one entry/
    ],
    [
      'no entry of recovery keys',
      smallest.replace(/\[\{.*\}\]/, '[]'),
      /the key "recovery" with at least one entry/
    ],
    ['another address', smallest.replace('file:///srv/backup', 'ftp://x'), /file:\/\/\/directory or s3:/],
    [
      'credentials in an address',
      smallest.replace('file:///srv/backup', 's3://key:secret@bucket'),
      /file:\/\/\/directory or s3:/
    ],
    [
      'S3 settings of a directory',
      smallest.replace('backup"', 'backup", region: eu'),
      /2:\d+: expected only with an s3:/
    ],
    [
      'two kinds of credentials',
      smallest.replace(
        '"file:///srv/backup"',
        '"s3://bucket", credentials: { file: /a, systemdCredential: b }'
      ),
      /exactly one of the keys file, systemdCredential, jwe/
    ],
    ['a key that is none', smallest.replace('hSDw', 'h!Dw'), /an X25519 key as 43 characters/],
    [
      'a private key among the recipients',
      smallest.replace('kty:', 'd: hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo, kty:'),
      /expected a known key, not "d"/
    ],
    ['neither file nor key', smallest.replace(/\{ jwk: .* \}\]/, '{}]'), /exactly one of the keys file, jwk/]
  ]
  for (const [what, text, message] of faults)
    it(`names the place and the slip of ${what}`, () => {
      const { code, message: said } = refusal(write(text))
      assert.equal(code, 'E_BAD_REQUEST')
      assert.match(said, message)
      assert.doesNotMatch(said, /secret@/)
    })

  it("has a VM's owner instead of the fleet, by name, pattern or UUID", () => {
    const uuid = '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'
    const tenants = `tenants:\n  - { vms: ["acme-*", "*-x-*-y", ${uuid}], recipients: [{ file: /t }] }\n`
    const policy = loadPolicy(write(smallest + tenants))
    const owned = (name: string, id = '11111111-6b53-4a3e-9d1c-0123456789ab') =>
      recipientsOf(policy, { name, uuid: id })[0]?.file === '/t'
    assert.deepEqual(
      ['acme-1', 'acme-', 'a-x-b-y', 'a-x-y', 'web-acme-1', 'acm', 'web-1'].map((name) => owned(name)),
      [true, true, true, false, false, false, false]
    )
    assert.ok(owned('web-1', uuid))
  })
})
