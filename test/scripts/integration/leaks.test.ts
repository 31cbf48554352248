// The check for leftovers, against things really left on the machine.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { machineSnapshot, newIn } from '../../../scripts/test-run/leaks.ts'

const skip = process.getuid?.() === 0 ? false : 'making networks and tables needs root'
const name = `hl-t-${randomBytes(3).toString('hex')}`
const directory = mkdtempSync(join(tmpdir(), 'hostlet-leaks-'))
after(() => rmSync(directory, { recursive: true, force: true }))
const networkFile = join(directory, 'network.xml')
writeFileSync(networkFile, `<network><name>${name}</name><bridge name='${name}'/></network>`)

const things = [
  {
    thing: `nft table inet ${name}`,
    make: ['nft', 'add', 'table', 'inet', name],
    drop: ['nft', 'delete', 'table', 'inet', name]
  },
  { thing: `namespace ${name}`, make: ['ip', 'netns', 'add', name], drop: ['ip', 'netns', 'delete', name] },
  {
    thing: `device ${name}`,
    make: ['ip', 'link', 'add', name, 'type', 'bridge'],
    drop: ['ip', 'link', 'delete', name]
  },
  {
    thing: `network ${name}`,
    make: ['virsh', '-c', 'qemu:///system', 'net-define', networkFile],
    drop: ['virsh', '-c', 'qemu:///system', 'net-undefine', name]
  }
]
for (const { thing, make, drop } of things) {
  test(`sees a new ${thing.split(' ')[0]}`, { skip }, async (t) => {
    const before = await machineSnapshot()
    run(make)
    t.after(() => run(drop))
    assert.ok(newIn(before, await machineSnapshot()).includes(thing))
  })
}

test('fails a run whose tests left something, and names it', { skip }, (t) => {
  const file = leavingFile()
  t.after(() => run(['ip', 'netns', 'delete', name]))
  const { stdout, status } = spawnSync(process.execPath, ['scripts/run-tests.ts', '--leaks', 'fail', file], {
    encoding: 'utf8'
  })
  assert.match(stdout, new RegExp(`nothing left behind: namespace ${name}$`, 'm'))
  assert.match(stdout, /^1 passed, [1-9]\d* failed, 0 skipped\n$/m)
  assert.equal(status, 1)
})

function leavingFile(): string {
  const file = join(directory, 'leaving.test.ts')
  writeFileSync(
    file,
    `import { spawnSync } from 'node:child_process'; import { test } from 'node:test'
     test('leaves a namespace', () => { spawnSync('ip', ['netns', 'add', '${name}']) })`
  )
  return file
}

function run([command = '', ...args]: readonly string[]) {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
}
