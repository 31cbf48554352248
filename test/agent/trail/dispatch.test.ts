// What the trail of a real dispatcher shows when the agent dies between the trail and the journal, and when the disk is full.

import assert from 'node:assert/strict'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { recordRetryMs } from '../../../src/agent/operations/engine.ts'
import type { CommandNote, CommandTrail } from '../../../src/agent/operations/gate.ts'
import { refusalWindowMs, signedRefusalsMax, Trail } from '../../../src/agent/trail/trail.ts'
import { HostletError } from '../../../src/errors.ts'
import { type ChainEntry, openLine } from '../../../src/lib/chain.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { createSigner, hostId } from '../../support/signed-commands.ts'
import { Fixture } from '../operations/fixture.ts'

describe('the trail of commands', () => {
  let root: string
  let state: string
  before(() => {
    root = mkdtempSync('/dev/shm/hostlet-trail-')
  })
  after(() => rmSync(root, { recursive: true }))
  beforeEach(() => {
    state = mkdtempSync(join(root, 'state-'))
  })

  const open = (fixture: Fixture, directory = state) =>
    Trail.open({
      stateDirectory: directory,
      identity: () => ({ hostId, commandKeys: [fixture.signer.publicKey] }),
      clock: fixture.clock,
      log: silentLogger
    })
  function entries(of = state): ChainEntry[] {
    const path = join(of, 'audit', '00000001.jsonl')
    if (!existsSync(path)) return []
    return readFileSync(path, 'utf8')
      .trimEnd()
      .split('\n')
      .flatMap((line) => openLine(Buffer.from(line)) ?? [])
  }
  function told(id: string, of = state): string[] {
    return entries(of)
      .filter(({ command }) => command === id)
      .map(({ kind, decision, outcome, code }) => [kind, code ?? decision ?? outcome].join(' '))
  }
  async function until(holds: () => boolean): Promise<void> {
    while (!holds()) await turn()
  }

  it('has a command that was done, one that was refused and one that was cancelled, each before it is told', async () => {
    await using fixture = await Fixture.create()
    await using trail = await open(fixture)
    const before: string[][] = []
    const push = fixture.sent.push.bind(fixture.sent)
    fixture.restart({ trail })
    fixture.sent.push = (message) => {
      if (message.type === 'result') before.push(told(message.result.command))
      return push(message)
    }
    const done = fixture.claims()
    await fixture.receive(done)
    await until(() => fixture.resultOf(done.id) !== undefined)
    assert.deepEqual(told(done.id), ['command.accepted accepted', 'operation.ended done'])
    assert.deepEqual(before, [told(done.id)])
    const stale = fixture.claims()
    await fixture.receive(stale)
    await until(() => fixture.refusalCode() !== undefined)
    assert.deepEqual(told(stale.id), ['command.refused E_STALE'])
    const forged = fixture.claims()
    await fixture.dispatcher.receive(await (await createSigner()).sign(forged))
    assert.deepEqual(told(forged.id), [])
    fixture.host.steps = [
      {
        name: 'long',
        apply: ({ signal }) =>
          new Promise<undefined>((_resolve, reject) => {
            fixture.host.note('long')
            signal.addEventListener('abort', () => reject(signal.reason), { once: true })
          })
      }
    ]
    const { subject: _none, ...cancelled } = fixture.claims({ verb: 'test.transfer' })
    await fixture.receive(cancelled)
    await until(() => fixture.host.done.includes('long'))
    await fixture.cancel(cancelled.id)
    await until(() => fixture.resultOf(cancelled.id) !== undefined)
    assert.deepEqual(told(cancelled.id), ['command.accepted accepted', 'operation.ended E_CANCELLED'])
  })

  it('is not filled by a flood of signed commands that are refused, and has each that is taken', async () => {
    await using fixture = await Fixture.create()
    await using trail = await open(fixture)
    fixture.restart({ trail })
    const flood = signedRefusalsMax + 50
    const taken = [fixture.claims()]
    await fixture.receive(taken[0])
    for (let sent = 0; sent < flood; sent++)
      await fixture.dispatcher.receive(await fixture.signer.sign(fixture.claims()))
    const { subject: _none, ...bare } = fixture.claims({ verb: 'test.backup' })
    taken.push(bare as (typeof taken)[number])
    await fixture.receive(bare)
    await until(() => taken.every(({ id }) => fixture.resultOf(id) !== undefined))
    await fixture.clock.advance(refusalWindowMs)
    await until(() => entries().some(({ kind }) => kind === 'command.refused-more'))
    for (const { id } of taken)
      assert.deepEqual(told(id), ['command.accepted accepted', 'operation.ended done'])
    const count = (of: string) => entries().filter(({ kind }) => kind === of).length
    assert.deepEqual([count('command.accepted'), count('command.refused')], [2, signedRefusalsMax])
    assert.equal(entries().find(({ kind }) => kind === 'command.refused-more')?.count, 50)
  })

  it('has an accepted command twice, and its effect once, when the agent died before the journal had it', async () => {
    await using fixture = await Fixture.create()
    const claims = fixture.claims()
    {
      await using trail = await open(fixture)
      const dying: CommandTrail = {
        note: async (note) => {
          await trail.note(note)
          // A SIGKILL between the two writes: nothing after the first comes about.
          throw new Error('killed')
        }
      }
      fixture.restart({ trail: dying })
      await fixture.receive(claims)
      await until(() => fixture.refusalCode() !== undefined)
      cpSync(state, `${state}-killed`, { recursive: true })
    }
    assert.equal(fixture.journal.find(claims.id), undefined)
    await using again = await open(fixture, `${state}-killed`)
    fixture.restart({ trail: again })
    await fixture.receive(claims)
    await until(() => fixture.resultOf(claims.id) !== undefined)
    assert.deepEqual(fixture.host.done, ['one', 'two'])
    assert.deepEqual(
      told(claims.id, `${state}-killed`).filter((line) => !line.startsWith('command.refused')),
      ['command.accepted accepted', 'command.accepted accepted', 'operation.ended done']
    )
  })

  it('has an end twice, and its effect once, when the agent died before the journal had the end', async () => {
    await using fixture = await Fixture.create()
    await using trail = await open(fixture)
    const claims = fixture.claims()
    let dies = true
    const dying: CommandTrail = {
      note: async (note: CommandNote) => {
        await trail.note(note)
        if (dies && note.kind === 'ended') await new Promise(() => undefined)
      }
    }
    fixture.restart({ trail: dying })
    await fixture.receive(claims)
    await until(() => told(claims.id).length === 2)
    assert.equal(fixture.journal.find(claims.id)?.result, undefined)
    dies = false
    fixture.restart({ trail: dying })
    fixture.dispatcher.resume()
    await until(() => fixture.resultOf(claims.id) !== undefined)
    assert.deepEqual(fixture.host.done, ['one', 'two'])
    assert.deepEqual(told(claims.id), [
      'command.accepted accepted',
      'operation.ended done',
      'operation.ended done'
    ])
  })

  it('refuses what cannot be written down, and keeps a result until it can be', async () => {
    await using fixture = await Fixture.create()
    const full = new HostletError('E_CAPACITY', 'the disk is full')
    let room = false
    const noted: string[] = []
    const trail: CommandTrail = {
      note: async ({ kind }) => {
        if (!room) throw full
        noted.push(kind)
      }
    }
    fixture.restart({ trail })
    const refused = fixture.claims()
    await fixture.receive(refused)
    assert.deepEqual([fixture.refusalCode(), fixture.host.done], ['E_CAPACITY', []])
    assert.equal(fixture.journal.find(refused.id), undefined)
    room = true
    fixture.host.steps = [
      {
        name: 'fill the disk',
        apply: async () => {
          room = false
        }
      }
    ]
    const claims = fixture.claims()
    await fixture.receive(claims)
    assert.deepEqual([fixture.resultOf(claims.id), noted], [undefined, ['accepted']])
    room = true
    await fixture.clock.advance(recordRetryMs)
    assert.equal(fixture.resultOf(claims.id)?.outcome, 'done')
    assert.deepEqual(noted, ['accepted', 'ended'])
  })
})
