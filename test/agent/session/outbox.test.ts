// What waits while the scheduler is away, and what goes out first when it is back.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventsMax, eventVmsMax, Outbox, socketBytesMax } from '../../../src/agent/session/outbox.ts'
import type { BackupReport } from '../../../src/protocol/backup.ts'
import type { CommandResult } from '../../../src/protocol/command.ts'
import {
  type AgentMessage,
  type AgentMessageOf,
  messageBytesMax,
  type VmEvent
} from '../../../src/protocol/messages.ts'
import type { MetricsSample } from '../../../src/protocol/metrics.ts'
import { reportOf, vmUuid } from '../backups/record-samples.ts'

const result = { command: 'c', outcome: 'done', startedAt: 1, finishedAt: 2 } as const satisfies CommandResult
const inventory = { type: 'inventory', at: 1 } as unknown as AgentMessageOf<'inventory'>
const event = (uuid: string, at: number): VmEvent => ({
  type: 'event',
  at,
  vm: `vm-${uuid}`,
  uuid,
  kind: 'started',
  state: 'running',
  detail: ''
})

function setUp({ metrics = 0 } = {}) {
  const results: CommandResult[] = []
  const batches = Array.from({ length: metrics }, (_, at) => [{ at } as MetricsSample])
  const outbox = new Outbox({ results: () => results, metrics: { take: () => batches.shift() ?? [] } })
  const sent: AgentMessage[] = []
  const wire = { isOpen: true, bufferedBytes: 0, send: (message: AgentMessage) => void sent.push(message) }
  return { outbox, results, sent, wire, batches, types: () => sent.map(({ type }) => type) }
}

describe('the outbox', () => {
  it('sends results, the inventory, events and metrics when the connection is up', () => {
    const { outbox, results, wire, types } = setUp({ metrics: 2 })
    results.push(result)
    outbox.post(event('a', 1))
    outbox.post(inventory)
    outbox.attach(wire)
    assert.deepEqual(types(), ['result', 'inventory', 'event', 'metrics', 'metrics'])
  })

  it('sends results again until they are acknowledged', () => {
    const { outbox, results, wire, types } = setUp()
    results.push(result)
    outbox.attach(wire)
    outbox.resend()
    results.length = 0
    outbox.resend()
    assert.deepEqual(types(), ['result', 'result'])
  })

  it('drops answers of a connection that is gone, and keeps events', () => {
    const { outbox, wire, types } = setUp()
    outbox.post({ type: 'ack', command: 'c', repeated: false })
    outbox.post(event('a', 1))
    outbox.attach(wire)
    assert.deepEqual(types(), ['event'])
    outbox.detach()
    outbox.post(event('b', 2))
    assert.equal(outbox.waiting, 1)
  })

  it('tells a refusal over the connection alone that brought the command', () => {
    const { outbox, wire, types } = setUp()
    const refusal = { type: 'refusal', command: 'c', error: { code: 'E_BUSY', message: '' } } as const
    outbox.attach(wire)
    const refuseEarlier = outbox.refusing()
    outbox.detach()
    refuseEarlier(refusal)
    outbox.attach({ ...wire })
    refuseEarlier(refusal)
    assert.deepEqual(types(), [])
    outbox.refusing()(refusal)
    assert.deepEqual(types(), ['refusal'])
  })

  it('keeps only the latest inventory', () => {
    const { outbox, wire, sent } = setUp()
    outbox.post({ ...inventory, at: 1 })
    outbox.post({ ...inventory, at: 2 })
    outbox.attach(wire)
    assert.deepEqual(sent, [{ ...inventory, at: 2 }])
  })

  it('keeps the latest event of each VM beyond its bound', () => {
    const { outbox, wire, sent } = setUp()
    for (let at = 0; at < eventsMax + 500; at++) outbox.post(event(String(at % 3), at))
    assert.ok(outbox.waiting <= eventsMax)
    outbox.attach(wire)
    const latest = ['0', '1', '2'].map((uuid) =>
      sent.filter((message) => message.type === 'event' && message.uuid === uuid).at(-1)
    )
    assert.deepEqual(
      latest.map((message) => message?.type === 'event' && message.at),
      [eventsMax + 497, eventsMax + 498, eventsMax + 499].sort((a, b) => (a % 3) - (b % 3))
    )
  })

  it('keeps the newest events of however many VMs', () => {
    const { outbox, wire, sent } = setUp()
    // Beyond this many each further event costs a look at all: no more than it takes to pass the bound.
    for (let at = 0; at < eventVmsMax; at++) outbox.post(event(String(at), at))
    outbox.post(event('last', eventVmsMax))
    assert.equal(outbox.waiting, eventVmsMax)
    outbox.attach(wire)
    assert.equal(sent[0]?.type === 'event' && sent[0].uuid, '1')
    assert.equal(sent.length, eventVmsMax)
  })

  it('sends no more results than the socket takes', () => {
    const { outbox, results, sent, wire } = setUp()
    results.push(result, result, result)
    const send = wire.send
    wire.send = (message) => {
      send(message)
      wire.bufferedBytes += socketBytesMax / 2
    }
    outbox.attach(wire)
    assert.equal(sent.length, 2)
    wire.bufferedBytes = 0
    outbox.resend()
    assert.equal(sent.length, 4)
  })

  it('keeps everything while the connection is closing', () => {
    const { outbox, wire, types } = setUp({ metrics: 1 })
    outbox.attach(wire)
    wire.isOpen = false
    const before = types().length
    outbox.post(event('a', 1))
    outbox.post(inventory)
    assert.equal(types().length, before)
    outbox.detach()
    outbox.attach({ ...wire, isOpen: true })
    assert.deepEqual(types().slice(before), ['inventory', 'event'])
  })

  it('holds metrics and events back while the socket is full', () => {
    const { outbox, wire, types, batches } = setUp({ metrics: 3 })
    wire.bufferedBytes = socketBytesMax
    outbox.post(event('a', 1))
    outbox.attach(wire)
    assert.deepEqual(types(), [])
    wire.bufferedBytes = 0
    outbox.pump()
    assert.deepEqual(types(), ['event', 'metrics', 'metrics', 'metrics'])
    assert.equal(batches.length, 0)
  })
})

describe('reports of backups', () => {
  function reporting(reports: BackupReport[]) {
    const sources = { results: () => [], metrics: { take: () => [] }, backups: () => reports }
    const sent: AgentMessage[] = []
    const wire = { isOpen: true, bufferedBytes: 0, send: (message: AgentMessage) => void sent.push(message) }
    return { outbox: new Outbox(sources), wire, sent }
  }

  it('go out on connect and again until they are acknowledged, and at once when there is a new one', () => {
    const reports = [reportOf()]
    const { outbox, wire, sent } = reporting(reports)
    outbox.tellBackups()
    assert.deepEqual(sent, [])
    outbox.attach(wire)
    outbox.resend()
    assert.deepEqual(sent, Array(2).fill({ type: 'backups', reports }))
    reports.length = 0
    outbox.resend()
    assert.equal(sent.length, 2)
    reports.push(reportOf({ good: false }))
    outbox.tellBackups()
    assert.deepEqual(sent.at(-1), { type: 'backups', reports })
  })

  it('wait for a socket that is full', () => {
    const { outbox, wire, sent } = reporting([reportOf()])
    wire.bufferedBytes = socketBytesMax
    outbox.attach(wire)
    assert.deepEqual(sent, [])
  })

  it('fill no message further than it goes: the rest follows the acknowledgement', () => {
    const removed = Array.from({ length: 1_024 }, () => vmUuid)
    const details = Object.fromEntries(Array.from({ length: 32 }, (_, at) => [`d${at}`, 'x'.repeat(4_096)]))
    const error = { code: 'E_INTERNAL', message: 'x', details } as const
    const large = Array.from({ length: 64 }, () => ({ ...reportOf({ good: false }), removed, error }))
    const { outbox, wire, sent } = reporting(large)
    outbox.attach(wire)
    const [message] = sent
    assert.ok(message?.type === 'backups' && message.reports.length < 64 && message.reports.length > 1)
    assert.ok(JSON.stringify(message).length < messageBytesMax)
    assert.equal(sent.length, 1)
  })
})
