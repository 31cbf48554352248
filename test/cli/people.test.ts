// Signing in and out, keys and second factors, as commands in processes of their own against a real scheduler.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { Secret, TOTP } from 'otpauth'
import type { CreatedKey, KeyList, SessionView } from '../../src/protocol/api.ts'
import { TestFleet } from './fleet.ts'
import { type Ended, environment, hostlet, mainPath } from './program.ts'

describe('people at the command line', { timeout: 120_000 }, () => {
  let fleet: TestFleet
  let home: string

  before(async () => {
    fleet = await TestFleet.start()
    home = mkdtempSync(join(tmpdir(), 'hostlet-people-'))
  })
  after(async () => {
    await fleet[Symbol.asyncDispose]()
    rmSync(home, { recursive: true, force: true })
  })

  const admin = () => readFileSync(fleet.scheduler.adminKeyFile, 'utf8').trim()

  /** As a person of a home of their own, with no key in the environment. */
  function person(name: string): {
    home: string
    run: (words: readonly string[], input?: string) => Promise<Ended>
  } {
    const place = join(home, name)
    const { HOSTLET_SCHEDULER = '', HOSTLET_CA_FILE = '' } = fleet.environment
    const extra = { HOME: place, HOSTLET_SCHEDULER, HOSTLET_CA_FILE }
    return { home: place, run: (words, input = '') => hostlet(words, extra, input) }
  }

  const sessionFile = (place: string) => join(place, '.config/hostlet/session')

  /** Makes a key as the admin does; the text alone is on the standard output. */
  async function keyFile(...words: readonly string[]): Promise<string> {
    const { stdout, stderr, status } = await fleet.hostlet('key', 'create', ...words)
    assert.equal(status, 0)
    assert.match(stdout, /^hlk_[\w-]{43}\n$/)
    assert.match(stderr, /Its text, shown this once:\n$/)
    const path = join(home, `${stdout.slice(4, 12)}.key`)
    writeFileSync(path, stdout, { mode: 0o600 })
    return path
  }

  /** Sets up a second factor the way a person does: the code follows from what the command has shown. */
  async function setUpFactor(key: string): Promise<{ secret: string; codes: readonly string[] }> {
    const { HOSTLET_SCHEDULER = '', HOSTLET_CA_FILE = '' } = fleet.environment
    const child = spawn(process.execPath, [mainPath, 'key', 'second-factor', '--api-key-file', key], {
      env: environment({ HOSTLET_SCHEDULER, HOSTLET_CA_FILE })
    })
    let secret: string | undefined
    let shown = ''
    child.stderr.on('data', (piece: Buffer) => {
      shown += piece.toString()
      if (secret !== undefined) return
      secret = /secret=([A-Z2-7]+)&/.exec(shown)?.[1]
      if (secret !== undefined) child.stdin.end(`${codeOf(secret)}\n`)
    })
    let codes = ''
    for await (const piece of child.stdout) codes += String(piece)
    return { secret: secret ?? assert.fail(shown), codes: codes.trim().split('\n') }
  }

  function codeOf(secret: string, aside = 0): string {
    return new TOTP({ secret: Secret.fromBase32(secret) }).generate({
      timestamp: Date.now() + aside * 30_000
    })
  }

  it('sign in with a key from the standard input, and need none from then on', async () => {
    const ada = person('ada')
    const before = await ada.run(['host', 'ls'])
    assert.equal(before.status, 2)
    assert.match(before.stderr, /hostlet login/)
    const { status, stdout, stderr } = await ada.run(['login'], `${admin()}\n`)
    assert.equal(status, 0, stderr)
    assert.match(stdout, /tier: +admin/)
    assert.match(stderr, /Signed in at https:/)
    assert.ok(!`${stdout}${stderr}`.includes('hls_'))
    const file = sessionFile(ada.home)
    assert.equal(statSync(file).mode & 0o777, 0o600)
    assert.equal(statSync(dirname(file)).mode & 0o777, 0o700)
    assert.ok(!readFileSync(file, 'utf8').includes('hlk_'))
    assert.match((await ada.run(['host', 'ls'])).stdout, /kvm-1/)
    const who = JSON.parse((await ada.run(['whoami', '-o', 'json'])).stdout) as SessionView
    assert.equal(who.factors, 1)
    assert.ok(who.id)
  })

  it('sign out: the session is gone here and there', async () => {
    const bob = person('bob')
    await bob.run(['login'], `${admin()}\n`)
    const file = sessionFile(bob.home)
    const kept = readFileSync(file, 'utf8')
    assert.match((await bob.run(['logout'])).stdout, /Signed out/)
    assert.equal(statSync(file, { throwIfNoEntry: false }), undefined)
    writeFileSync(file, kept, { mode: 0o600 })
    const ended = await bob.run(['host', 'ls'])
    assert.equal(ended.status, 6)
    assert.match(ended.stderr, /session has ended.*hostlet login/)
    // One that has ended there is forgotten here all the same.
    assert.equal((await bob.run(['logout'])).status, 0)
    assert.match((await bob.run(['logout'])).stdout, /not signed in/)
  })

  it('say when a session is over, take none that others can read, and show one to its scheduler alone', async () => {
    const eve = person('eve')
    await eve.run(['login'], `${admin()}\n`)
    const file = sessionFile(eve.home)
    const kept = readFileSync(file, 'utf8')
    writeFileSync(file, JSON.stringify({ ...JSON.parse(kept), expiresAt: Date.now() - 1_000 }))
    assert.match((await eve.run(['host', 'ls'])).stderr, /ended .*hostlet login/)
    writeFileSync(file, kept)
    chmodSync(file, 0o640)
    assert.match((await eve.run(['host', 'ls'])).stderr, /read by others/)
    chmodSync(file, 0o600)
    const elsewhere = await eve.run(['host', 'ls', '--scheduler', 'https://localhost:1'])
    assert.match(elsewhere.stderr, /without an API key/)
    writeFileSync(file, '{')
    assert.match((await eve.run(['host', 'ls'])).stderr, /holds no session/)
  })

  it('refuse to sign in with what is no key, and with nothing', async () => {
    const { run } = person('nobody')
    assert.match((await run(['login'], 'password\n')).stderr, /no API key/)
    assert.match((await run(['login'])).stderr, /nothing was entered/)
    const unknown = await run(['login'], `hlk_${'A'.repeat(43)}\n`)
    assert.deepEqual([unknown.status, /not known/.test(unknown.stderr)], [6, true])
  })

  it('set up a second factor and sign in with it; the session then stands in for the key', async () => {
    const cy = person('cy')
    const key = await keyFile('admin', '--owner', 'Cy', '--expires', '3d', '--second-factor')
    const wanted = await cy.run(['host', 'ls', '--api-key-file', key])
    assert.equal(wanted.status, 6)
    assert.match(wanted.stderr, /hostlet key second-factor/)
    const early = await cy.run(['login', '--api-key-file', key])
    assert.match(
      early.stderr,
      /^Set up a second factor first.*: hostlet key second-factor\. Until then .* refused\.$/m
    )
    assert.ok(early.stderr.indexOf('Set up') < early.stderr.indexOf('Signed in'))
    const { secret, codes } = await setUpFactor(key)
    assert.equal(codes.length, 8)
    assert.match((await cy.run(['host', 'ls', '--api-key-file', key])).stderr, /hostlet login/)
    assert.match((await cy.run(['login', '--api-key-file', key], '12345\n')).stderr, /six digits/)
    const signed = await cy.run(['login', '--api-key-file', key], `${codeOf(secret, 1)}\n`)
    assert.equal(signed.status, 0, signed.stderr)
    assert.match(signed.stdout, /key and second factor/)
    const listed = await cy.run(['host', 'ls', '--api-key-file', key])
    assert.match(listed.stdout, /kvm-1/)
    assert.match(listed.stderr, /warning: your API key ends in 2d23h/)
    // Another key is used as it is.
    const other = await keyFile('read', '--machine', '--note', 'cron')
    const who = await cy.run(['whoami', '-o', 'json', '--api-key-file', other])
    assert.equal((JSON.parse(who.stdout) as SessionView).tier, 'read')
    const again = await cy.run(['login', '--api-key-file', key], `${codes[0]}\n`)
    assert.match(again.stderr, /7 recovery codes are left/)
    const renewed = await cy.run(['key', 'second-factor', '--recovery-codes'])
    assert.equal(renewed.stdout.trim().split('\n').length, 8)
  })

  it('list keys masked, with their ends, factors and last use; rotate them with an overlap; remove factors', async () => {
    const key = await keyFile('manage', '--owner', 'Dan', '--expires', '90d')
    await setUpFactor(key)
    const list = async () => JSON.parse((await fleet.hostlet('key', 'ls', '-o', 'json')).stdout) as KeyList
    const text = readFileSync(key, 'utf8').trim()
    const dan = (await list()).keys.find(({ owner }) => owner === 'Dan') ?? assert.fail()
    assert.equal(dan.masked, `hlk_…${text.slice(-4)}`)
    assert.deepEqual([dan.secondFactor, dan.lastUsedFrom, dan.machine], ['on', '127.0.0.1', false])
    const table = (await fleet.hostlet('key', 'ls')).stdout
    assert.ok(table.includes(dan.masked ?? '') && !table.includes(text))
    assert.match(table, /in 89d23h/)
    const rotated = await fleet.hostlet('key', 'rotate', dan.id, '--overlap', '1h', '-o', 'json')
    const fresh = (JSON.parse(rotated.stdout) as CreatedKey).key
    assert.deepEqual([fresh.owner, fresh.tier, fresh.secondFactor], ['Dan', 'manage', 'wanted'])
    const old = (await list()).keys.find(({ id }) => id === dan.id)
    assert.ok((old?.expiresAt ?? Number.POSITIVE_INFINITY) <= Date.now() + 3_600_000)
    assert.match((await fleet.hostlet('key', 'second-factor', dan.id, '--remove')).stdout, /removed/)
    assert.equal((await list()).keys.find(({ id }) => id === dan.id)?.secondFactor, 'none')
    const now = await fleet.hostlet('key', 'rotate', dan.id, '--overlap', '0s')
    assert.match(now.stderr, /good for nothing any more/)
    const expired = await person('dan').run(['host', 'ls', '--api-key-file', key])
    assert.match(expired.stderr, /expired on .*hostlet key create/)
  })

  it('refuse what does not go together', async () => {
    const shortKey = join(home, 'short.key')
    writeFileSync(shortKey, `hlk_${'A'.repeat(42)}\n`)
    const table: readonly [readonly string[], RegExp][] = [
      [['key', 'second-factor', 'some-id'], /leave the id out/],
      [['key', 'second-factor', '--remove'], /give the id/],
      [['key', 'second-factor', '--remove', '--recovery-codes'], /not both/],
      [['key', 'create', 'read', '--expires', '3'], /not a duration/],
      [['key', 'create', 'read', '--machine', '--second-factor'], /machine has no second factor/],
      [['login', '--api-key-file', shortKey], /holds no API key: one begins with hlk_ and has 47 char/],

      [['audit', 'export', '--scheduler', '--since', '1h', '--until', '2h'], /nothing lies between/]
    ]
    for (const [words, message] of table) {
      const { status, stderr } = await fleet.hostlet(...words)
      assert.equal(status, 2, words.join(' '))
      assert.match(stderr, message)
    }
  })

  it('name what is not there as it was given', async () => {
    const table: readonly [readonly string[], RegExp][] = [
      [['key', 'rotate', 'nope'], /there is no key "nope"\. See "hostlet key ls"\./],
      [['key', 'rm', 'nope', '--yes'], /there is no key "nope"\./],
      [['vm', 'show', 'Web_9'], /there is no VM "Web_9"\. See "hostlet vm ls"\./],
      [['op', 'show', '7'], /there is no operation "7"\./]
    ]
    for (const [words, message] of table) {
      const { status, stderr } = await fleet.hostlet(...words)
      assert.equal(status, 4, stderr)
      assert.match(stderr, message)
    }
  })

  it('export the audit of a time, with who signed in how', async () => {
    const { stdout } = await fleet.hostlet('audit', 'export', '--scheduler', '--since', '1h')
    const entries = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    assert.ok(
      entries.some(({ route, factors, owner }) => route === '/v1/session' && factors === 2 && owner === 'Cy')
    )
    assert.ok(entries.some(({ reason }) => reason === 'unknown-key'))
    const earlier = await fleet.hostlet('audit', 'export', '--scheduler', '--until', '1h', '--csv')
    assert.equal(earlier.stdout.trim().split('\n').length, 1)
    assert.match(earlier.stdout, /,owner,session,factors,.*,reason,/)
  })

  it('get in again at the scheduler’s machine when nobody can', async () => {
    const config = join(home, 'scheduler.yaml')
    const directory = dirname(fleet.scheduler.adminKeyFile)
    writeFileSync(config, `stateDirectory: ${directory}\npeople: { requireSecondFactor: admin }\n`)
    const made = await hostlet(['key', 'rescue', '--config', config])
    assert.equal(made.status, 0, made.stderr)
    const path = join(home, 'rescue.key')
    writeFileSync(path, made.stdout)
    const { status, stdout } = await person('operator').run(['key', 'ls', '--api-key-file', path])
    assert.deepEqual([status, /rescue/.test(stdout)], [0, true])
    assert.match((await fleet.hostlet('audit', 'ls', '--scheduler')).stdout, /key\.rescue/)
    writeFileSync(config, `stateDirectory: ${home}\n`)
    const none = await hostlet(['key', 'rescue', '--config', config])
    assert.deepEqual([none.status, /no store/.test(none.stderr)], [4, true])
  })
})
