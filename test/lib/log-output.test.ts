// Logs: the journal's form, JSON, masked secrets, and levels that change while running.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { HostletError } from '../../src/errors.ts'
import { chooseFormat, createLogger, type LogFormat } from '../../src/lib/log-output.ts'
import { logTextMax } from '../../src/lib/redact.ts'

function capture(format: LogFormat) {
  const lines: string[] = []
  const stream = { write: (text: string) => lines.push(text) }
  const log = createLogger({ format, level: 'info', stream, environment: {} })
  return { log, text: () => lines.join('') }
}

describe('the journal form', () => {
  it('is a priority, a sentence and the facts, without time, process or host', () => {
    const { log, text } = capture('journal')
    log.child({ vm: 'web-1' }).info({ durationMs: 812, note: 'two words' }, 'VM started')
    log.warn({ pool: { name: 'hostlet', usedRatio: 0.9 } }, 'pool nearly full')
    assert.equal(
      text(),
      '<6>VM started vm=web-1 durationMs=812 note="two words" event=vm-started\n' +
        '<4>pool nearly full pool.name=hostlet pool.usedRatio=0.9 event=pool-nearly-full\n'
    )
  })

  it('puts the priority before each line of a stack trace', () => {
    const { log, text } = capture('journal')
    log.error({ error: new TypeError('broken') }, 'operation failed')
    const lines = text().trimEnd().split('\n')
    assert.equal(lines[0], '<3>operation failed error.message=broken event=operation-failed')
    assert.equal(lines[1], '<3>  TypeError: broken')
    assert.ok(lines.length > 2 && lines.every((line) => line.startsWith('<3>')))
  })

  it('shows no stack for an error that was foreseen', () => {
    const { log, text } = capture('journal')
    log.warn({ error: new HostletError('E_BUSY', 'come back', { details: { waiting: 3 } }) }, 'refused')
    assert.equal(
      text(),
      '<4>refused error.code=E_BUSY error.message="come back" error.details.waiting=3 event=refused\n'
    )
  })

  it('lets no value break the line or drive the terminal', () => {
    const { log, text } = capture('journal')
    log.info({ guest: 'a\n<0>forged\u001b[2J\u009b2J' }, 'guest\nsays')
    assert.equal(text(), '<6>guest says guest="a\\n<0>forged\\u001b[2J\\u009b2J" event=guest-says\n')
  })
})

describe('the log', () => {
  it('writes JSON with level, time and message, and no process or host', () => {
    const { log, text } = capture('json')
    log.info({ vm: 'web-1' }, 'VM started')
    const entry = JSON.parse(text())
    assert.equal(typeof entry.time, 'number')
    assert.deepEqual(
      { ...entry, time: 0 },
      { level: 'info', time: 0, vm: 'web-1', event: 'vm-started', message: 'VM started' }
    )
  })

  it('masks secrets wherever they stand, in children too', () => {
    const { log, text } = capture('json')
    log
      .child({ api_key: 'hunter2' })
      .info({ token: 'hunter2', nested: { list: [{ Password: 'hunter2' }] }, jws: 'hunter2' }, 'request')
    assert.ok(!text().includes('hunter2'))
    assert.equal(text().split('[masked]').length - 1, 4)
  })

  it('bounds long values, deep values and cycles', () => {
    const { log, text } = capture('json')
    const cycle: Record<string, unknown> = {}
    cycle.self = cycle
    log.info({ long: 'x'.repeat(100_000), cycle }, 'bounded')
    assert.ok(text().length < logTextMax + 1_000)
    assert.match(text(), /\[deeper\]/)
  })

  it('lets no fact pass for the level or the message', () => {
    const { log, text } = capture('journal')
    log.info({ level: 'error', message: 'forged', event: 'another' }, 'real')
    assert.equal(text(), '<6>real level_=error message_=forged event_=another event=real\n')
  })

  it('changes its level while running, for children that exist', () => {
    const { log, text } = capture('journal')
    const child = log.child({ part: 'x' })
    child.debug({}, 'before')
    log.setLevel('debug')
    child.debug({}, 'after')
    assert.equal(text(), '<7>after part=x\n')
  })

  it('has a form for terminals', () => {
    const { log, text } = capture('pretty')
    log.warn({ vm: 'web-1' }, 'slow')
    assert.match(text(), /^\d\d:\d\d:\d\d\.\d{3} WARN {2}slow {2}vm=web-1\n$/)
  })
})

describe('chooseFormat', () => {
  it('takes the journal under systemd, pretty on a terminal, JSON elsewhere, and what was asked for first', () => {
    assert.equal(chooseFormat('auto', { isTTY: true }, { JOURNAL_STREAM: '8:1' }), 'journal')
    assert.equal(chooseFormat('auto', { isTTY: true }, {}), 'pretty')
    assert.equal(chooseFormat('auto', {}, {}), 'json')
    assert.equal(chooseFormat('json', { isTTY: true }, { JOURNAL_STREAM: '8:1' }), 'json')
  })
})
