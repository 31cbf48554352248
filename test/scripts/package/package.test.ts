// What stands in the package: versions as Debian orders them, its changelog, its manual, and the licences of all that it holds.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { debianChangelog } from '../../../scripts/package/changelog.ts'
import { copyright } from '../../../scripts/package/copyright.ts'
import { manualPages } from '../../../scripts/package/manual.ts'
import { debianVersion, sourceEpoch } from '../../../scripts/package/version.ts'
import { commands } from '../../../src/cli/commands.ts'

const root = join(import.meta.dirname, '../../..')
const release = { version: '1.2.3-rc.1', epoch: 1_700_000_000 }

describe('the version of a package', () => {
  it('sorts before the release where it is a candidate of it', () => {
    assert.equal(debianVersion('1.2.3'), '1.2.3')
    assert.equal(debianVersion('1.2.3-rc.1'), '1.2.3~rc.1')
    const compared = spawnSync('dpkg', ['--compare-versions', debianVersion('1.2.3-rc.1'), 'lt', '1.2.3'])
    assert.equal(compared.status, 0)
    for (const wrong of ['', '1.2', 'v1.2.3', '1.2.3 ', '../1.2.3', '1.2.3_x'])
      assert.throws(() => debianVersion(wrong), /no version/)
  })

  it('comes with a time that can be given', () => {
    const before = process.env.SOURCE_DATE_EPOCH
    try {
      process.env.SOURCE_DATE_EPOCH = '1700000000'
      assert.equal(sourceEpoch(root), 1_700_000_000)
      process.env.SOURCE_DATE_EPOCH = 'yesterday'
      assert.throws(() => sourceEpoch(root), /SOURCE_DATE_EPOCH is "yesterday"/)
    } finally {
      if (before === undefined) delete process.env.SOURCE_DATE_EPOCH
      else process.env.SOURCE_DATE_EPOCH = before
    }
  })
})

describe('the changelog of a package', () => {
  it('is what Debian reads', () => {
    const text = debianChangelog(root, release)
    const parsed = spawnSync('dpkg-parsechangelog', ['-l', '-', '-S', 'Version'], {
      input: text,
      encoding: 'utf8'
    })
    if (parsed.error === undefined) assert.equal(parsed.stdout, '1.2.3~rc.1\n')
    assert.match(text, /^hostlet \(1\.2\.3~rc\.1\) unstable; urgency=medium\n\n {2}\* /)
    assert.match(text, /\n -- .+ <.+@.+> {2}Tue, 14 Nov 2023 22:13:20 \+0000\n$/)
    assert.ok(text.split('\n').every((line) => line.length <= 100))
  })
})

describe('the manual', () => {
  it('has every command, and says nothing that roff takes for its own', async () => {
    const pages = await manualPages(root, release)
    const [program] = pages
    assert.equal(program?.name, 'hostlet.1')
    for (const { words } of commands)
      assert.match(
        program?.text ?? '',
        new RegExp(`^\\.SS "hostlet ${words.join(' ').replaceAll('-', '\\\\-')}[ "]`, 'm')
      )
    for (const { name, text } of pages) {
      const { status, stdout, stderr, error } = spawnSync(
        'man',
        ['--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', '-'],
        { input: text, encoding: 'utf8', env: { PATH: process.env.PATH, LC_ALL: 'C.UTF-8' } }
      )
      if (error !== undefined) continue
      assert.equal(stderr, '', name)
      assert.equal(status, 0)
      assert.ok(stdout.length > 1_000)
    }
  })
})

describe('the copyright of a package', () => {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-copyright-'))
  after(() => rmSync(directory, { recursive: true }))

  function packageWith(name: string, manifest: object, licence?: string): string {
    const path = join(directory, name)
    mkdirSync(path)
    writeFileSync(join(path, 'package.json'), JSON.stringify({ name, version: '1.0.0', ...manifest }))
    if (licence !== undefined) writeFileSync(join(path, 'LICENSE'), licence)
    return path
  }

  it('has the licence of each package with its holder', () => {
    const one = packageWith('one', { license: 'MIT' }, 'MIT\n\nCopyright (c) 2020 Somebody\n\nfree')
    const text = copyright(root, [one])
    assert.match(text, /^License: Node\.js$/m)
    assert.match(
      text,
      /^Copyright: Copyright \(c\) 2020 Somebody\nLicense: MIT-one\n one 1\.0\.0, under MIT\n \.\n/m
    )
  })

  it('refuses a package without one', () => {
    assert.throws(() => copyright(root, [packageWith('none', {})]), /none 1\.0\.0 states no licence/)
  })
})
