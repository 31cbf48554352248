// The phases of a rotation: what each step changes, who it waits for, and what hosts are told.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { rotationActions, rotationPhases } from '../../../src/protocol/api.ts'
import { authoritiesMax } from '../../../src/protocol/trust.ts'
import type { HostTrust } from '../../../src/scheduler/store/trust-store.ts'
import { laggingHosts } from '../../../src/scheduler/trust/lagging.ts'
import {
  assertPossible,
  type Rotation,
  statementOf,
  stepped,
  transitions,
  withRoles
} from '../../../src/scheduler/trust/state.ts'

const idle: Rotation<string> = {
  phase: 'idle',
  active: 'A',
  other: undefined,
  serial: 1,
  changedAt: 1,
  changedBy: 'x'
}
const take = (rotation: Rotation<string>, action: keyof typeof transitions) =>
  stepped(rotation, { action, next: action === 'start' ? 'B' : undefined, serial: 2, at: 2, by: 'me' })
const roles = (rotation: Rotation<string>) => withRoles(rotation).map(({ item, role }) => `${item} ${role}`)

describe('a rotation', () => {
  it('goes through its phases, and hosts believe both in between', () => {
    const prepared = take(idle, 'start').rotation
    assert.deepEqual(roles(prepared), ['A active', 'B next'])
    const activated = take(prepared, 'activate').rotation
    assert.deepEqual(roles(activated), ['B active', 'A previous'])
    const { rotation, dropped } = take(activated, 'finish')
    assert.deepEqual([roles(rotation), dropped, rotation.phase], [['B active'], 'A', 'idle'])
  })

  it('leads back from each of them', () => {
    const prepared = take(idle, 'start').rotation
    const returned = take(take(prepared, 'activate').rotation, 'return').rotation
    assert.deepEqual(roles(returned), roles(prepared))
    const { rotation, dropped } = take(returned, 'abort')
    assert.deepEqual([roles(rotation), dropped], [['A active'], 'B'])
  })

  it('allows in each phase the steps that lead on from it, and names them', () => {
    for (const phase of rotationPhases)
      for (const action of rotationActions) {
        if (transitions[action].from === phase) assertPossible(phase, action, 'ca')
        else
          assert.throws(() => assertPossible(phase, action, 'ca'), {
            code: 'E_CONFLICT',
            message: /Possible: "hostlet rotate ca \w+"/
          })
      }
  })

  it('tells hosts of no more CAs than a statement holds, the newest ones', () => {
    const key = { kty: 'OKP', crv: 'Ed25519', kid: 'k', x: 'x' } as const
    const retired = Array.from({ length: 40 }, (_, index) => `old ${index}`)
    const state = {
      serial: 3,
      commandKey: { ...idle, active: key, other: undefined },
      authority: take(idle, 'start').rotation,
      retired,
      renewWithinMs: 1
    }
    const { authorities } = statementOf(state, 'test.example', 5)
    assert.equal(authorities.length, authoritiesMax)
    assert.deepEqual(
      authorities.slice(0, 2).map(({ role }) => role),
      ['active', 'next']
    )
    assert.equal(authorities.at(-1)?.certificate, 'old 39')
  })
})

describe('hosts that a step waits for', () => {
  const host = (changes: Partial<HostTrust> = {}): HostTrust => ({
    host: 'kvm-1',
    state: 'connected',
    lastSeenAt: 5,
    certificateExpiresAt: 1_000,
    serial: 7,
    fault: undefined,
    authority: 'new',
    ...changes
  })
  const reasons = (
    hosts: readonly HostTrust[],
    subject: 'ca' | 'command-key',
    action: keyof typeof transitions
  ) =>
    laggingHosts(hosts, {
      subject,
      action,
      rotation: { ...idle, serial: 7 },
      authorities: { active: 'new', other: 'old' },
      now: 100
    }).map(({ reason }) => reason)

  it('are those that have not adopted its statement', () => {
    assert.deepEqual(reasons([host()], 'command-key', 'activate'), [])
    const table: readonly [Partial<HostTrust>, RegExp][] = [
      [{ serial: 6 }, /has not answered yet/],
      [{ serial: undefined }, /Upgrade it/],
      [{ serial: 6, fault: 'the disk is full' }, /the disk is full/],
      [{ serial: 6, state: 'away' }, /away since 1970.*before any command/],
      [{ serial: 0, state: 'new' }, /has not connected yet/]
    ]
    for (const [changes, expected] of table)
      for (const action of ['activate', 'finish'] as const)
        assert.match(reasons([host(changes)], 'command-key', action).join(), expected)
  })

  it('are those whose certificate is of the CA that is dropped', () => {
    assert.deepEqual(reasons([host()], 'ca', 'finish'), [])
    for (const authority of ['old', undefined])
      assert.match(reasons([host({ authority })], 'ca', 'finish').join(), /is to be dropped/)
    assert.match(reasons([host({ authority: 'old' })], 'ca', 'abort').join(), /is to be dropped/)
    assert.deepEqual(reasons([host()], 'ca', 'abort'), [])
    assert.deepEqual(reasons([host({ authority: 'old' })], 'command-key', 'finish'), [])
  })

  it('are none whose certificate has expired, and none for a step that drops nothing', () => {
    const late = host({ serial: 1, authority: 'old', certificateExpiresAt: 50 })
    assert.deepEqual(reasons([late], 'ca', 'finish'), [])
    for (const action of ['start', 'return'] as const)
      assert.deepEqual(reasons([host({ serial: 1, authority: 'old' })], 'ca', action), [])
  })
})
