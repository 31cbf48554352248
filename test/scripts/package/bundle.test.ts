// The bundle: what a source names beside itself is found from where it lies then, and packages of either kind load when used.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, describe, it } from 'node:test'
import { bundle, inputsOf } from '../../../scripts/package/bundle.ts'

const root = join(import.meta.dirname, '../../..')

describe('the inputs of the bundle', () => {
  it('are the program, its threads and its children', () => {
    const names = inputsOf(root).programs.map((path) => path.slice(root.length + 1))
    for (const name of [
      'src/main.ts',
      'src/backup/write/pack-worker.ts',
      'src/agent/metrics/detect-facts.ts'
    ])
      assert.ok(names.includes(name), name)
  })
})

describe('a bundle', () => {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-bundle-'))
  after(() => rmSync(directory, { recursive: true }))

  function project(name: string, files: Readonly<Record<string, string>>): string {
    for (const [path, text] of Object.entries(files)) {
      const file = join(directory, name, path)
      mkdirSync(dirname(file), { recursive: true })
      writeFileSync(file, text)
    }
    return join(directory, name)
  }

  const packages = {
    'package.json': '{"type":"module"}',
    'node_modules/old/package.json': '{"name":"old","main":"old.js","license":"MIT"}',
    'node_modules/old/old.js': 'exports.word = require("node:path").basename("/a/old")',
    'node_modules/new/package.json': '{"name":"new","type":"module","exports":"./new.js","license":"MIT"}',
    'node_modules/new/new.js': 'export const word = "new"; export default 1'
  }

  it('runs: threads, children, files beside, lazy packages of either kind', async () => {
    const from = project('works', {
      ...packages,
      'src/main.ts': `import { deep } from './deep/deep.ts'
        process.stdout.write(JSON.stringify(await deep()))`,
      'src/deep/deep.ts': `import { execFileSync } from 'node:child_process'
        import { once } from 'node:events'
        import { readdirSync, readFileSync } from 'node:fs'
        import { join } from 'node:path'
        import { Worker } from 'node:worker_threads'
        const child = join(import.meta.dirname, 'child.ts')
        export async function deep() {
          const worker = new Worker(new URL('./thread.ts', import.meta.url))
          const [said] = await once(worker, 'message')
          const { word: old } = await import('old')
          const { word: fresh } = await import('new')
          const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
          const files = readdirSync(new URL('./web/', import.meta.url))
          return [said, String(execFileSync(process.execPath, [child])), old, fresh, version, ...files]
        }`,
      'src/deep/thread.ts': `import { parentPort } from 'node:worker_threads'
        parentPort?.postMessage('thread')`,
      'src/deep/child.ts': `process.stdout.write('child')`,
      'src/deep/web/page.html': '',
      'src/deep/web/style.css': ''
    })
    const out = join(directory, 'out')
    const used = await bundle({ root: from, out, version: '7.8.9' })
    rmSync(from, { recursive: true })
    assert.deepEqual(
      used.map((path) => path.slice(from.length + 1)),
      ['node_modules/new', 'node_modules/old']
    )
    const { stdout, stderr } = spawnSync(process.execPath, [join(out, 'main.js')], { encoding: 'utf8' })
    assert.equal(stderr, '')
    assert.deepEqual(JSON.parse(stdout), ['thread', 'child', 'old', 'new', '7.8.9', 'page.html', 'style.css'])
    assert.ok(existsSync(join(out, 'assets/deep/web/page.html')))
  })

  it('is refused where a source names files in a way that it could not find again', async () => {
    const from = project('refused', {
      ...packages,
      'src/main.ts': 'console.log(import.meta.filename)'
    })
    const made = bundle({ root: from, out: join(directory, 'none'), version: '1.0.0', quiet: true })
    await assert.rejects(made, /import\.meta\.filename: the bundle finds files beside a source only as/)
  })
})
