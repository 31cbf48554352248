// docs/reference is what the declarations say, and the pages say something of every command, key and route.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { referenceDirectory, referencePages } from '../scripts/generate-reference.ts'
import { commands } from '../src/cli/commands.ts'
import { routes } from '../src/scheduler/http/routes.ts'

describe('docs/reference', () => {
  let pages: ReadonlyMap<string, string>
  before(async () => {
    pages = await referencePages()
  })

  it('is as the declarations are: node scripts/generate-reference.ts', () => {
    assert.deepEqual(readdirSync(referenceDirectory).sort(), [...pages.keys()].sort())
    for (const [name, text] of pages)
      assert.equal(readFileSync(join(referenceDirectory, name), 'utf8'), text, name)
  })

  it('has every command and every route', () => {
    const headings = (name: string) => pages.get(name)?.match(/^### `.*$/gm) ?? []
    assert.equal(headings('commands.md').length, commands.length)
    assert.equal(headings('api.md').length, routes.length)
    for (const { words } of commands)
      assert.ok(
        headings('commands.md').some((line) => line.startsWith(`### \`hostlet ${words.join(' ')}`)),
        words.join(' ')
      )
  })

  it('takes the meaning of keys from the commented samples', () => {
    const meaningOf = (page: string, key: string) =>
      pages
        .get(page)
        ?.split('\n')
        .find((line) => line.startsWith(`| \`${key}\` |`))
        ?.split(' | ')
        .at(-1)
    assert.match(
      meaningOf('agent-yaml.md', 'profiles.NAME.ownBridge') ?? '',
      /a bridge and a network for each VM/
    )
    assert.match(meaningOf('agent-yaml.md', 'libvirt.socket') ?? '', /daemon's socket/)
    assert.match(meaningOf('scheduler-yaml.md', 'commands.abandonAfterMs') ?? '', /stay silent/)
  })
})
