// An error that nothing caught is in the log before it ends the process.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { describe, it } from 'node:test'
import { logLastWords } from '../../src/lib/last-words.ts'
import { createLogger } from '../../src/lib/log-output.ts'

const source = (name: string) => JSON.stringify(new URL(`../../src/lib/${name}`, import.meta.url).href)

describe('last words', () => {
  for (const [what, fault] of [
    ['an uncaught exception', "setImmediate(() => { throw new Error('broken') })"],
    ['a rejection that nobody handles', "void Promise.reject(new Error('broken'))"]
  ] as const)
    it(`tell of ${what}, which ends the process`, () => {
      const program = `
        import { createLogger } from ${source('log-output.ts')}
        import { logLastWords } from ${source('last-words.ts')}
        logLastWords(createLogger({ format: 'json' }))
        ${fault}
        setTimeout(() => process.exit(0), 10_000)`
      const ended = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' })
      assert.equal(ended.status, 1)
      const entry = JSON.parse(ended.stdout.trim())
      assert.equal(entry.level, 'error')
      assert.equal(entry.error.code, 'E_INTERNAL')
      assert.match(entry.error.message, /broken/)
      assert.match(entry.error.stack, /at /)
    })

  it('are not told twice by a process that no longer listens', () => {
    const process = new EventEmitter()
    const lines: string[] = []
    const log = createLogger({ format: 'json', stream: { write: (line) => lines.push(line) } })
    logLastWords(log, process)[Symbol.dispose]()
    process.emit('uncaughtExceptionMonitor', new Error('broken'), 'uncaughtException')
    assert.deepEqual(lines, [])
  })
})
