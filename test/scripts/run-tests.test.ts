// The test runner, run on small test files of each sort: what it counts, prints and exits with.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'

const RUN_TIMEOUT_MS = 60_000
const imports = `import { describe, it, test } from 'node:test';`
let directory = ''

before(() => {
  directory = mkdtempSync(join(tmpdir(), 'hostlet-run-tests-'))
})
after(() => rmSync(directory, { recursive: true, force: true }))

test('sums passed, failed and skipped over files, and names skips with their reasons', () => {
  const { lines, status } = runOn({
    'a.test.ts': `${imports}
      test('one', () => {})
      test('two', { skip: 'no machine' }, () => {})
      test('three', (t) => t.skip('not today'))
      describe('four', { skip: 'whole suite' }, () => { it('five', () => {}) })`,
    'b.test.ts': `${imports}
      describe('outer', () => { it('six', () => {}); it('seven', () => { throw new Error('seven broke') }) })`
  })
  assert.equal(lines.at(-1), '2 passed, 1 failed, 3 skipped')
  assert.equal(status, 1)
  assert.match(lines.join('\n'), /a\.test\.ts: two: no machine/)
  assert.match(lines.join('\n'), /a\.test\.ts: three: not today/)
  assert.match(lines.join('\n'), /a\.test\.ts: four: whole suite/)
  assert.match(lines.join('\n'), /outer > seven/)
  assert.match(lines.join('\n'), /seven broke/)
})

test('exits 0 when everything passes', () => {
  const { lines, status } = runOn({ 'a.test.ts': `${imports} test('one', () => {})` })
  assert.equal(lines.at(-1), '1 passed, 0 failed, 0 skipped')
  assert.equal(status, 0)
})

test('prints what a test that passes says it has tried', () => {
  const { lines } = runOn({
    'a.test.ts': `${imports} test('one', (t) => { t.diagnostic('figure: 7 inputs'); t.diagnostic('not this') })`
  })
  assert.match(lines.join('\n'), /a\.test\.ts +1 passed.*\n +7 inputs\n/)
  assert.doesNotMatch(lines.join('\n'), /not this/)
  assert.equal(lines.at(-1), '1 passed, 0 failed, 0 skipped')
})

const broken = {
  'a file that cannot be loaded': `import './absent.ts'`,
  'a file without a test': 'export const nothing = 1',
  'a process that exits with an error after its tests passed': `${imports}
    test('one', () => {}); process.on('exit', () => { process.exitCode = 3 })`,
  'a process that dies in a test': `${imports}
    test('one', async () => { process.kill(process.pid, 'SIGKILL'); await new Promise((resolve) => setTimeout(resolve, 5000)) })`
}
for (const [name, source] of Object.entries(broken)) {
  test(`counts ${name} as one failure`, () => {
    const { lines, status } = runOn({ 'a.test.ts': source })
    assert.match(lines.at(-1) ?? '', /^\d passed, 1 failed, 0 skipped$/)
    assert.equal(status, 1)
  })
}

test('ends what a test file left running', () => {
  const { status } = runOn({
    'a.test.ts': `${imports} import { spawn } from 'node:child_process'; import { writeFileSync } from 'node:fs'
      test('one', () => {
        const child = spawn('sleep', ['600'], { stdio: 'inherit' })
        writeFileSync(${JSON.stringify(join(directory, 'pid'))}, String(child.pid)); child.unref()
      })`
  })
  assert.equal(status, 0)
  const left = spawnSync('ps', [
    '-o',
    'stat=',
    '-p',
    spawnSync('cat', [join(directory, 'pid')]).stdout.toString()
  ])
  assert.doesNotMatch(left.stdout.toString(), /^[SR]/)
})

test('says so when nothing matches', () => {
  const { status, errors } = run([join(directory, 'absent.test.ts')])
  assert.equal(status, 1)
  assert.match(errors, /No test file matches/)
})

function runOn(files: Record<string, string>) {
  const paths = Object.entries(files).map(([name, source]) => {
    const path = join(directory, name)
    writeFileSync(path, source)
    return path
  })
  // Other test files run beside this one and may have started things of their own: they must not count here.
  return run(['--leaks', 'off', ...paths])
}

function run(args: readonly string[]) {
  const { stdout, stderr, status } = spawnSync(process.execPath, ['scripts/run-tests.ts', ...args], {
    timeout: RUN_TIMEOUT_MS,
    encoding: 'utf8'
  })
  return { lines: stdout.trimEnd().split('\n'), errors: stderr, status }
}
