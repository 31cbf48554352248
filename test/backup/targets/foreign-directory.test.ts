// A volume of a pool: a file that is the agent's own, in a directory of root's that the agent can only pass through.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'

const nobody = 65_534
const asRoot = { skip: process.getuid?.() === 0 ? false : 'only root can become another user' }
const directory = mkdtempSync(join(tmpdir(), 'hostlet-foreign-'))
chmodSync(directory, 0o755)
after(() => rmSync(directory, { recursive: true, force: true }))
const module = new URL('../../../src/backup/targets/qcow2-file.ts', import.meta.url).href

/** Writes a block as another user, then ends as told. */
const script = (end: 'finish' | 'abort') => `
const { createQcow2File } = await import(${JSON.stringify(module)})
process.setgroups([]); process.setgid(${nobody}); process.setuid(${nobody})
const wait = { signal: new AbortController().signal }
const target = await createQcow2File(process.env.VOLUME, 1048576, { reuse: true })
await target.write(0, Buffer.alloc(65536, 7), wait)
await target.${end}(wait)
`

function write(name: string, end: 'finish' | 'abort') {
  const pool = join(directory, name)
  mkdirSync(pool)
  const volume = join(pool, 'web-1.qcow2')
  writeFileSync(volume, '', { mode: 0o600 })
  chownSync(volume, nobody, nobody)
  chmodSync(pool, 0o711)
  const args = ['--input-type=module', '--eval', script(end)]
  const run = spawnSync(process.execPath, args, { encoding: 'utf8', env: { VOLUME: volume } })
  return { volume, run }
}

describe('a disk in a directory that belongs to somebody else', asRoot, () => {
  it('is written to its end', () => {
    const { volume, run } = write('finished', 'finish')
    assert.equal(run.status, 0, run.stderr)
    assert.equal(spawnSync('qemu-img', ['check', '-q', volume]).status, 0)
  })

  it('is left to its owner when it is given up', () => {
    const { volume, run } = write('aborted', 'abort')
    assert.equal(run.status, 0, run.stderr)
    assert.ok(existsSync(volume))
  })
})
