// The browser's end of a console: never more than its credit is sent or owed, and one end is told.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ConsoleEnd } from '../../../src/protocol/console.ts'
import { consoleSubprotocol, consoleWindowBytes } from '../../../src/protocol/console.ts'
import {
  ConsoleLink,
  type LinkSocket,
  subprotocol,
  waitingBytesMax
} from '../../../src/scheduler/web/console-link.ts'

const ticket = `hlc_${'A'.repeat(43)}`
const attachedMessage = {
  ...{ type: 'attached', vm: 'web-1', host: 'kvm-1', mode: 'write' },
  ...{ idleMs: 1_000, longestMs: 2_000, windowBytes: consoleWindowBytes }
}

function linked() {
  const events = new EventTarget()
  const sent: (string | number)[] = []
  const closed: number[] = []
  const socket = {
    binaryType: 'blob',
    readyState: 1,
    send: (data: string | Uint8Array) => sent.push(typeof data === 'string' ? data : data.length),
    close: (code: number) => closed.push(code),
    addEventListener: events.addEventListener.bind(events)
  } as unknown as LinkSocket
  const ends: ConsoleEnd[] = []
  const shown: { bytes: number; taken: () => void }[] = []
  const link = new ConsoleLink(socket, ticket, {
    attached: () => undefined,
    show: (data, taken) => shown.push({ bytes: data.length, taken }),
    ended: (end) => ends.push(end)
  })
  const hear = (data: unknown) => events.dispatchEvent(new MessageEvent('message', { data }))
  const say = (message: unknown) => hear(JSON.stringify(message))
  const event = (name: string) => events.dispatchEvent(new Event(name))
  return { link, sent, closed, ends, shown, hear, say, event }
}

function attached() {
  const parts = linked()
  parts.event('open')
  parts.say(attachedMessage)
  parts.sent.length = 0
  return parts
}

describe('the browser’s end of a console', () => {
  it('shows its ticket first, and types nothing before it is attached', () => {
    const { link, sent, event } = linked()
    event('open')
    assert.deepEqual(sent, [JSON.stringify({ type: 'attach', ticket })])
    assert.equal(link.type(new Uint8Array(1)), false)
    assert.equal(sent.length, 1)
    assert.equal(subprotocol, consoleSubprotocol)
  })

  it('sends what is typed as far as there is credit, the rest as it comes, and takes no more than it may hold', () => {
    const { link, sent, say } = attached()
    assert.ok(link.type(new Uint8Array(consoleWindowBytes - 1)))
    assert.ok(link.type(new Uint8Array(3)))
    assert.deepEqual(sent, [consoleWindowBytes - 1, 1])
    say({ type: 'credit', bytes: 1 })
    assert.deepEqual(sent.slice(2), [1])
    assert.ok(link.type(new Uint8Array(waitingBytesMax - 1)))
    assert.equal(link.type(new Uint8Array(1)), false)
    say({ type: 'credit', bytes: consoleWindowBytes })
    assert.deepEqual(sent.slice(3), [consoleWindowBytes])
  })

  it('gives credit for what is on the screen, and for no byte twice', () => {
    const { sent, shown, hear } = attached()
    for (let piece = 0; piece < 3; piece++) hear(new ArrayBuffer(10_000))
    assert.deepEqual(sent, [])
    for (const { taken } of shown) taken()
    const credits = sent.map((text) => (JSON.parse(String(text)) as { bytes: number }).bytes)
    assert.deepEqual(credits, [20_000, 10_000])
  })

  it('tells one end: what the scheduler says, else that the connection was lost', () => {
    const said = attached()
    said.say({ type: 'closed', why: 'off', message: 'VM web-1 is off' })
    said.event('close')
    assert.deepEqual(said.ends, [{ why: 'off', message: 'VM web-1 is off' }])
    const lost = attached()
    lost.event('close')
    assert.deepEqual(lost.ends, [{ why: 'lost', message: 'the connection to the scheduler was lost' }])
    const refused = linked()
    refused.event('close')
    assert.match(refused.ends[0]?.message ?? '', /did not open/)
  })

  it('leaves at once, and neither shows nor types after that', () => {
    const { link, closed, ends, sent, shown, hear } = attached()
    link.leave()
    assert.deepEqual(closed, [1000])
    assert.equal(ends[0]?.why, 'left')
    hear(new ArrayBuffer(1))
    assert.equal(link.type(new Uint8Array(1)), false)
    assert.deepEqual([shown.length, sent.length], [0, 0])
  })

  it('ends where it does not understand the scheduler', () => {
    for (const text of ['{', '{"type":"other"}']) {
      const { hear, ends } = attached()
      hear(text)
      assert.equal(ends[0]?.why, 'protocol')
    }
  })
})
