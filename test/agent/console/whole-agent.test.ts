// A console from an operator through a real scheduler and a whole agent to a guest in memory, over real sockets.

import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import type { ConsoleReply, OperationReply, VmList } from '../../../src/protocol/api.ts'
import { Operator } from '../../scheduler/support/operator.ts'
import { TestScheduler } from '../../scheduler/support/test-scheduler.ts'
import { HostAgent } from '../../support/host-agent.ts'
import { runningVm } from '../../support/memory-vms.ts'

const floodBytes = 2_000_000
const canary = 'canary-of-a-console'

it('a console leads to the guest and back, bears a flood, and leaves who and when in the trail, not what', {
  timeout: 60_000
}, async () => {
  await using scheduler = await TestScheduler.start()
  await using host = await HostAgent.enroll(scheduler)
  await host.start(scheduler, { settings: { console: { sessionsMax: 1 } } })
  await host.untilLogged('connected to scheduler')
  await runningVm(host.hypervisor, 'web-1')
  const { api } = scheduler
  while ((await api.get<VmList>('/v1/vms')).vms.length === 0) await new Promise(setImmediate)

  const granted = async () => {
    const reply = await api.post<ConsoleReply>('/v1/vms/web-1/console', {})
    for (;;) {
      const { operation } = await api.get<OperationReply>(`/v1/operations/${reply.operation.id}`)
      if (operation.state === 'done' || operation.state === 'failed') return { reply, operation }
      await new Promise(setImmediate)
    }
  }
  const { reply } = await granted()
  const operator = await Operator.attach(reply, {
    ...{ url: scheduler.running.url, ca: api.ca, key: scheduler.adminKey }
  })
  await operator.next('attached')
  operator.type(canary)
  await operator.untilShown(canary.length)
  assert.equal(operator.shown.toString(), canary)
  operator.say({ type: 'credit', bytes: canary.length })
  assert.equal((await operator.next('credit')).bytes, canary.length)
  assert.match(String((await granted()).operation.error?.message), /taken by made at the first start/)

  // Larger than all that may be under way; it comes whole and in order.
  const flood = Buffer.alloc(floodBytes)
  for (let at = 0; at < floodBytes; at += 4) flood.writeUInt32LE(at, at)
  host.hypervisor.consoles.say('web-1', flood)
  operator.shown = Buffer.alloc(0)
  for (let credited = 0; credited < floodBytes; ) {
    await operator.untilShown(Math.min(floodBytes, credited + 1))
    const bytes = Math.min(65_536, operator.shown.length - credited)
    credited += bytes
    operator.say({ type: 'credit', bytes })
  }
  assert.ok(operator.shown.equals(flood))

  await host.stop()
  assert.equal((await operator.next('closed')).why, 'stopping')
  const trail = globSync(join(host.stateDirectory, 'audit', '*.jsonl'))
    .map((path) => readFileSync(path, 'utf8'))
    .join('')
  for (const kind of ['console.opened', 'console.closed']) assert.ok(trail.includes(`"${kind}"`), kind)
  assert.match(trail, /"by":"made at the first start \(key /)
  assert.ok(!`${trail}${host.log}${scheduler.log.text}`.includes(canary))
})
