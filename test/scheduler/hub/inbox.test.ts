// The inbox: in order, one at a time, and a sender that is too fast is paused.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Inbox, inboxBytesMax, inboxMessagesMax } from '../../../src/scheduler/hub/inbox.ts'

function slowInbox() {
  const log: string[] = []
  const gate = { open: Promise.withResolvers<void>() }
  const inbox = new Inbox<number>({
    handle: async (item) => {
      log.push(`start ${item}`)
      await gate.open.promise
      log.push(`end ${item}`)
    },
    pause: () => log.push('pause'),
    resume: () => log.push('resume')
  })
  return { inbox, log, gate }
}

describe('inbox', () => {
  it('handles one message after the other, in the order of arrival', async () => {
    const { inbox, log, gate } = slowInbox()
    for (const item of [1, 2, 3]) inbox.push(item, 1)
    gate.open.resolve()
    await inbox.settled()
    assert.deepEqual(log, ['start 1', 'end 1', 'start 2', 'end 2', 'start 3', 'end 3'])
  })

  it('pauses the socket at its bound, once, and resumes it at half', async () => {
    const { inbox, log, gate } = slowInbox()
    for (let item = 0; item < inboxMessagesMax + 10; item++) inbox.push(item, 1)
    assert.deepEqual(
      log.filter((line) => line === 'pause' || line === 'resume'),
      ['pause']
    )
    gate.open.resolve()
    await inbox.settled()
    assert.deepEqual(
      log.filter((line) => line === 'pause' || line === 'resume'),
      ['pause', 'resume']
    )
    const handledBefore = log.slice(0, log.indexOf('resume')).filter((line) => line.startsWith('end')).length
    assert.equal(handledBefore, 10 + inboxMessagesMax / 2)
  })

  it('pauses it as well when few messages are many bytes', async () => {
    const { inbox, log, gate } = slowInbox()
    const flow = () => log.filter((line) => line === 'pause' || line === 'resume')
    // The first one is being handled: it does not wait any more.
    for (let item = 0; item < 4; item++) inbox.push(item, inboxBytesMax / 4)
    assert.deepEqual(flow(), [])
    inbox.push(4, inboxBytesMax / 4)
    assert.deepEqual(flow(), ['pause'])
    gate.open.resolve()
    await inbox.settled()
    assert.deepEqual(flow(), ['pause', 'resume'])
  })

  it('goes on after it was empty', async () => {
    const { inbox, log, gate } = slowInbox()
    gate.open.resolve()
    inbox.push(1, 1)
    await inbox.settled()
    inbox.push(2, 1)
    await inbox.settled()
    assert.deepEqual(log, ['start 1', 'end 1', 'start 2', 'end 2'])
  })
})
