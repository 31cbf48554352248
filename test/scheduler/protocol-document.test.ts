// docs/protocol.md names every message, route, close code and reason that there is, and the limits that hold.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { errorCodes } from '../../src/errors.ts'
import { listItemsMax, operationStates, requestBytesMax, vmViewStates } from '../../src/protocol/api.ts'
import { commandBytesMax } from '../../src/protocol/command.ts'
import { agentMessages, closeCodes, messageBytesMax, schedulerMessages } from '../../src/protocol/messages.ts'
import { failuresMax } from '../../src/scheduler/http/failure-limiter.ts'
import { routes } from '../../src/scheduler/http/routes.ts'
import { unansweredMax, unansweredMs } from '../../src/scheduler/hub/delivery.ts'
import { inboxBytesMax, inboxMessagesMax } from '../../src/scheduler/hub/inbox.ts'
import { sendBytesMax } from '../../src/scheduler/hub/outgoing.ts'
import { retryBaseMs, retryCapMs } from '../../src/scheduler/refusals.ts'
import { openCommandsMax } from '../../src/scheduler/store/command-table.ts'

const text = readFileSync(join(import.meta.dirname, '../../docs/protocol.md'), 'utf8')

describe('docs/protocol.md', () => {
  it('has a line for every message', () => {
    const types = [...agentMessages, ...schedulerMessages].map(({ properties }) => properties.type.const)
    assert.ok(types.length >= 15)
    for (const type of types) assert.ok(text.includes(`| \`${type}\` |`), type)
  })

  it('has a line for every route with its tier, and for no other', () => {
    const lines = [...text.matchAll(/^\| `((?:GET|POST|PUT|DELETE) [^`]+)` \| (\w*) ?\|/gm)]
    const described = lines.map(([, route, tier]) => `${route} ${tier}`)
    const actual = routes.map(({ method, path, tier }) => `${method} ${path} ${tier === 'open' ? '' : tier}`)
    assert.deepEqual(described.sort(), actual.sort())
  })

  it('explains every code, state and close code', () => {
    for (const code of Object.keys(errorCodes)) assert.ok(text.includes(`\`${code}\``), code)
    for (const state of [...operationStates, ...vmViewStates]) assert.ok(text.includes(`\`${state}\``), state)
    for (const code of Object.values(closeCodes)) assert.ok(text.includes(`| ${code} |`), String(code))
  })

  it('states the limits that hold', () => {
    const limits: readonly [number, number, string][] = [
      [messageBytesMax, 8 * 1024 ** 2, 'at most 8 MiB'],
      [commandBytesMax, 256 * 1024, 'at most 256 KiB'],
      [requestBytesMax, 1024 ** 2, 'at most 1 MiB'],
      [sendBytesMax, 16 * 1024 ** 2, 'when 16 MiB wait'],
      [inboxMessagesMax, 64, 'more than 64'],
      [inboxBytesMax, 16 * 1024 ** 2, 'or 16 MiB of them'],
      [unansweredMax, 32, 'At most 32 commands'],
      [unansweredMs, 30_000, 'unanswered for 30 s'],
      [openCommandsMax, 2_000, 'at most 2,000\noperations'],
      [retryBaseMs, 2_000, 'after 1 to 2 s'],
      [retryCapMs, 60_000, 'up to a minute'],
      [listItemsMax, 1_000, '1,000 at most'],
      [failuresMax, 20, '20 a minute']
    ]
    for (const [actual, documented, words] of limits) {
      assert.equal(actual, documented)
      assert.ok(text.includes(words), words)
    }
  })
})
