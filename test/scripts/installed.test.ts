// Whether set-up thinks that node_modules is what package-lock.json asks for.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'

const otherArch = process.arch === 'x64' ? 'arm64' : 'x64'
const wanted = {
  '': { name: 'project' },
  'node_modules/a': { version: '1.0.0', integrity: 'sha512-a' },
  'node_modules/here': { version: '1.0.0', optional: true, os: ['linux'], cpu: [process.arch] },
  'node_modules/elsewhere': { version: '1.0.0', optional: true, os: ['linux'], cpu: [otherArch] },
  'node_modules/musl': {
    version: '1.0.0',
    optional: true,
    os: ['linux'],
    cpu: [process.arch],
    libc: ['musl']
  }
}
const complete = {
  'node_modules/a': wanted['node_modules/a'],
  'node_modules/here': wanted['node_modules/here']
}

test('is content with what is there, although the lock file is newer', (t) => {
  const root = project(t, complete)
  utimesSync(join(root, 'package-lock.json'), new Date(), new Date(Date.now() + 60_000))
  assert.equal(isInstalled(root), true)
})

const incomplete: Record<string, Record<string, unknown> | undefined> = {
  'no install was ever finished': undefined,
  'a package is missing': { 'node_modules/here': wanted['node_modules/here'] },
  'a package is of another version': {
    ...complete,
    'node_modules/a': { version: '0.9.0', integrity: 'sha512-a' }
  },
  'a package has other contents': {
    ...complete,
    'node_modules/a': { version: '1.0.0', integrity: 'sha512-b' }
  },
  'an optional package for this machine is missing': { 'node_modules/a': wanted['node_modules/a'] }
}
for (const [why, installed] of Object.entries(incomplete)) {
  test(`asks for an install when ${why}`, (t) => assert.equal(isInstalled(project(t, installed)), false))
}

test('asks for an install when a package is recorded, but its folder is gone', (t) => {
  const root = project(t, complete)
  rmSync(join(root, 'node_modules/a'), { recursive: true })
  assert.equal(isInstalled(root), false)
})

function project(t: TestContext, installed: Record<string, unknown> | undefined): string {
  const root = mkdtempSync(join(tmpdir(), 'hostlet-installed-'))
  t.after(() => rmSync(root, { recursive: true, force: true }))
  writeFileSync(join(root, 'package-lock.json'), JSON.stringify({ packages: wanted }))
  for (const path of Object.keys(installed ?? {})) mkdirSync(join(root, path), { recursive: true })
  if (installed)
    writeFileSync(join(root, 'node_modules/.package-lock.json'), JSON.stringify({ packages: installed }))
  return root
}

function isInstalled(root: string): boolean {
  const { status, stderr } = spawnSync(process.execPath, ['scripts/setup/installed.mjs', root], {
    encoding: 'utf8'
  })
  assert.equal(stderr, '')
  return status === 0
}
