// The terminal of an operator: raw while a console has it, as it was afterwards, and deaf to what a guest asked it for.

import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { describe, it } from 'node:test'
import { Terminal } from '../../../src/cli/console/terminal.ts'

function rig() {
  const modes: boolean[] = []
  const written: string[] = []
  const pauses: string[] = []
  const input = Object.assign(new EventEmitter(), {
    setRawMode: (raw: boolean) => modes.push(raw),
    resume: () => pauses.push('resume'),
    pause: () => pauses.push('pause')
  })
  const output = { isTTY: true, write: (text: string) => written.push(text) }
  const terminal = new Terminal({
    input: input as unknown as NodeJS.ReadStream,
    output: output as unknown as NodeJS.WriteStream,
    // The terminal's answer to what the guest asked comes just then.
    sleep: async () => void input.emit('data', Buffer.from('\x1b[?62;c'))
  })
  return { terminal, input, modes, written, pauses }
}

describe('the terminal of an operator', () => {
  it('hands over keys while it is raw, and is as it was afterwards', async () => {
    const { terminal, input, modes, pauses } = rig()
    const keys: string[] = []
    terminal.begin((typed) => keys.push(String(typed)))
    input.emit('data', Buffer.from('a'))
    await terminal.end()
    input.emit('data', Buffer.from('b'))
    assert.deepEqual(keys, ['a'])
    assert.deepEqual(modes, [true, false])
    assert.equal(pauses.at(-1), 'pause')
    assert.equal(input.listenerCount('data'), 0)
    await terminal.end()
    assert.deepEqual(modes, [true, false])
  })

  it('has what the guest switched on switched off', async () => {
    for (const [shown, leaves] of [
      ['plain', false],
      ['\x1b[?1049hvim', true],
      ['\x1b[?1049hvim\x1b[?1049l', false]
    ] as const) {
      const { terminal, written } = rig()
      terminal.begin(() => undefined)
      terminal.note(Buffer.from(shown))
      await terminal.end()
      assert.equal(written.join('').includes('\x1b[?1049l'), leaves, shown)
      for (const calming of ['\x1b[!p', '\x1b[?25h', '\x1b[?1000l', '\x1b[?2004l'])
        assert.ok(written.join('').includes(calming))
    }
  })

  it('is left alone where it was never raw', async () => {
    const { terminal, modes, written } = rig()
    await terminal.end()
    assert.deepEqual([modes, written], [[], []])
  })
})
