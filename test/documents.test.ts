// README, tutorial and index: commands of the README are those of the tutorial, which a test runs; the index has every page.

import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { blocksOf, commandsOf, missingLine } from './support/document-blocks.ts'

const root = join(import.meta.dirname, '..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const blocks = (path: string) => blocksOf(join(root, path), path)

/** Commands of the README that the tutorial does not have, each with what runs it. */
const runElsewhere: Readonly<Record<string, { script: string; says: string; by: string; has: string }>> = {
  'npm start': {
    script: 'start',
    says: 'scripts/start.sh',
    by: 'test/integration/first-light.test.ts',
    has: 'scripts/first-light.ts'
  },
  'npm test': { script: 'test', says: 'scripts/test.sh', by: 'scripts/test.sh', has: 'scripts/run-tests.ts' }
}

describe('README.md', () => {
  it('has commands that are run: those of the tutorial in their order, or by what is named here', () => {
    const tutorial = blocks('docs/tutorial.md').flatMap(commandsOf)
    let from = 0
    for (const command of blocks('README.md').flatMap(commandsOf)) {
      if (command in runElsewhere) continue
      const at = tutorial.indexOf(command, from)
      assert.notEqual(at, -1, `the tutorial does not have, in this order: ${command}`)
      from = at + 1
    }
    assert.ok(from > 0, 'none was found')
  })

  it('names for the others what is there and runs them', () => {
    const { scripts } = JSON.parse(read('package.json'))
    const commands = blocks('README.md').flatMap(commandsOf)
    for (const [command, { script, says, by, has }] of Object.entries(runElsewhere)) {
      assert.ok(commands.includes(command), command)
      assert.ok(scripts[script].includes(says), scripts[script])
      assert.ok(read(by).includes(has), by)
    }
  })

  it('leads from a bare machine to a VM in ten commands at most', () => {
    const commands = blocks('README.md').flatMap(commandsOf)
    const own = commands.filter((command) => !(command in runElsewhere))
    assert.ok(own.length <= 10, own.join('\n'))
  })

  it('is short', () => {
    assert.ok(read('README.md').split('\n').length <= 121)
  })
})

describe('docs/README.md', () => {
  it('has every page but those that have an index of their own', () => {
    const index = read('docs/README.md')
    const pages = globSync('docs/*.md', { cwd: root }).map((path) => basename(path))
    assert.deepEqual(
      pages.filter((page) => page !== 'README.md' && !index.includes(`](${page})`)),
      []
    )
  })
})

describe('links between the documents', () => {
  it('lead to what is there', () => {
    const broken = ['README.md', ...globSync('docs/*.md', { cwd: root })].flatMap((path) =>
      [...read(path).matchAll(/\]\(([^)#:\s]+)(?:#[^)]*)?\)/g)]
        .map(([, target = '']) => target)
        .filter((target) => !existsSync(join(root, dirname(path), target)))
        .map((target) => `${path}: ${target}`)
    )
    assert.deepEqual(broken, [])
  })
})

describe('lines that a document shows', () => {
  it('are looked for in their order, whole, with … for anything', () => {
    const output = 'NAME     STATE\n  web-1  running (booted)\r\nVM web-1 is off.\n'
    assert.equal(missingLine(['NAME STATE', 'web-1…running…', 'VM … is off.'], output), undefined)
    assert.equal(missingLine(['web-1…', 'NAME STATE'], output), 'NAME STATE')
    assert.equal(missingLine(['web-1 running'], output), 'web-1 running')
    assert.equal(missingLine(['VM web-1 is offX'], output), 'VM web-1 is offX')
  })
})
