// When a connection that a hung QEMU holds up is replaced, and when that would do harm.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LOW_PRIORITY_IN_FLIGHT_MAX } from 'node-libvirt'
import {
  type Replacements,
  replacementsMax,
  replacementsWindowMs,
  retiredMax,
  StuckConnections,
  stuckForMs
} from '../../../src/agent/host/stuck-connections.ts'

const full = LOW_PRIORITY_IN_FLIGHT_MAX

describe('a connection whose calls do not return', () => {
  it('is replaced once it was full of them for a while, without a pause', () => {
    const stuck = watch()
    const connection = loaded(full)
    assert.equal(stuck.observe('jobs', connection, 0), 'keep')
    assert.equal(stuck.observe('jobs', connection, stuckForMs - 1), 'keep')
    connection.load.abandoned = full - 1
    assert.equal(stuck.observe('jobs', connection, stuckForMs), 'keep')
    connection.load.abandoned = full
    assert.equal(stuck.observe('jobs', connection, stuckForMs + 1), 'keep')
    assert.equal(stuck.observe('jobs', connection, 2 * stuckForMs), 'keep')
    assert.equal(stuck.observe('jobs', connection, 2 * stuckForMs + 1), 'replace')
  })

  it('says nothing of the other roles, nor of the connection that takes its place', () => {
    const stuck = watch()
    stuck.observe('jobs', loaded(full), 0)
    assert.equal(stuck.observe('statistics', loaded(full), stuckForMs), 'keep')
    assert.equal(stuck.observe('jobs', loaded(full), stuckForMs), 'keep')
  })

  it('is replaced a few times only, also by the next session, and again after a while', () => {
    const replacements: Replacements = new Map()
    let now = 0
    for (let time = 0; time < replacementsMax; time++) {
      const stuck = watch(replacements)
      assert.equal(adviceAfterStuck(stuck, now), 'replace')
      now += stuckForMs
    }
    const stuck = watch(replacements)
    const connection = loaded(full)
    assert.equal(adviceAfterStuck(stuck, now, connection), 'spent')
    assert.equal(stuck.observe('jobs', connection, now + stuckForMs + 1), 'keep', 'told once')
    assert.equal(stuck.observe('jobs', connection, stuckForMs + replacementsWindowMs), 'replace')
  })

  it('is not replaced while too many replaced ones still hold workers of libvirtd', () => {
    const stuck = watch()
    const retired = Array.from({ length: retiredMax }, () => loaded(full))
    for (const connection of retired) stuck.retire(connection)
    assert.deepEqual(stuck.takeDrained(), [])
    const connection = loaded(full)
    assert.equal(adviceAfterStuck(stuck, 0, connection), 'spent')
    const [drained] = retired
    assert.ok(drained)
    Object.assign(drained.load, { inFlight: 0, abandoned: 0 })
    assert.deepEqual(stuck.takeDrained(), [drained])
    assert.equal(stuck.observe('jobs', connection, 2 * stuckForMs), 'replace')
  })
})

function watch(replacements: Replacements = new Map()) {
  return new StuckConnections<ReturnType<typeof loaded>>(replacements)
}

function loaded(abandoned: number) {
  return { load: { inFlight: abandoned, abandoned, queued: 0 } }
}

function adviceAfterStuck(stuck: ReturnType<typeof watch>, from: number, connection = loaded(full)) {
  assert.equal(stuck.observe('jobs', connection, from), 'keep')
  return stuck.observe('jobs', connection, from + stuckForMs)
}
