// docs/isolation.md and docs/security.md against the tests that they name: each file is there and has a test of that title.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'

const documents = ['isolation.md', 'security.md']
const reference = /`([^`]+\.ts)`: "((?:\\"|[^"])+)"/g

interface Row {
  readonly part: string
  readonly promise: string
  readonly mechanism: string
  readonly test: string
}

function rows(document: string): Row[] {
  return document.split('\n## ').flatMap((text) => {
    const [part = '', ...lines] = text.split('\n')
    return lines
      .filter(
        (line) =>
          line.startsWith('| ') &&
          !line.startsWith('| promise |') &&
          !line.startsWith('| point |') &&
          line.split('|').length === 5
      )
      .map((line) => line.slice(1, -1).split('|'))
      .map(([promise = '', mechanism = '', test = '']) => ({
        part,
        promise: promise.trim(),
        mechanism,
        test
      }))
  })
}

/** Titles stand in source as they are written there: in any of three kinds of quotes. */
function hasTitle(path: string, title: string): boolean {
  const text = readFileSync(path, 'utf8')
  return ["'", '"', '`'].some((quote) => text.includes(`${quote}${title}${quote}`))
}

for (const name of documents)
  describe(`the tables of docs/${name}`, () => {
    const document = readFileSync(join(import.meta.dirname, '..', 'docs', name), 'utf8')

    it('has promises, each with a mechanism and a test', () => {
      assert.ok(rows(document).length > 20, `${rows(document).length} rows`)
      const bare = rows(document).filter(
        ({ mechanism, test }) => mechanism.trim() === '' || !test.match(reference)
      )
      assert.deepEqual(
        bare.map(({ promise }) => promise),
        []
      )
    })

    it('names tests that exist, by file and title', () => {
      const missing = [...document.matchAll(reference)].flatMap(([, file = '', escaped = '']) => {
        const path = join(import.meta.dirname, file)
        const title = escaped.replaceAll('\\"', '"')
        return existsSync(path) && hasTitle(path, title) ? [] : [`${file}: ${title}`]
      })
      assert.deepEqual(missing, [])
    })
  })
