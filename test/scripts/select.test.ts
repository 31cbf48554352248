// Which test files a run takes.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { selectFiles } from '../../scripts/test-run/select.ts'

const root = mkdtempSync(join(tmpdir(), 'hostlet-select-'))
after(() => rmSync(root, { recursive: true, force: true }))

const files = [
  'test/b.test.ts',
  'test/lib/a.test.ts',
  'test/lib/helper.ts',
  'test/integration/vm.test.ts',
  'test/lib/integration/x.test.ts',
  'test/contract/hypervisor.test.ts',
  'test/campaign/verbs.test.ts'
]
for (const file of files) {
  mkdirSync(dirname(join(root, file)), { recursive: true })
  writeFileSync(join(root, file), '')
}

test('takes all test files by default: unit first, then what shares libvirtd', () => {
  assert.deepEqual(selectFiles(root, []), [
    { name: 'unit', files: ['test/b.test.ts', 'test/lib/a.test.ts'] },
    { name: 'contract', files: ['test/contract/hypervisor.test.ts'] },
    { name: 'campaign', files: ['test/campaign/verbs.test.ts'] },
    { name: 'integration', files: ['test/integration/vm.test.ts', 'test/lib/integration/x.test.ts'] }
  ])
})

test('takes a group by name, and a group within a directory', () => {
  assert.deepEqual(
    selectFiles(root, ['contract']).flatMap((group) => group.files),
    ['test/contract/hypervisor.test.ts']
  )
  assert.deepEqual(selectFiles(root, ['unit', 'test/lib']), [{ name: 'unit', files: ['test/lib/a.test.ts'] }])
})

test('takes a file once, however often it is named', () => {
  assert.deepEqual(selectFiles(root, ['test/lib', 'test/lib/a.test.ts', 'test/lib/a.test.ts', 'unit']), [
    { name: 'unit', files: ['test/lib/a.test.ts'] }
  ])
})

test('gives nothing for a path that does not exist', () => {
  assert.deepEqual(selectFiles(root, ['test/absent']), [])
})
