// What may happen to a VM beside its backups: most things, but not what makes, replaces or removes it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { HostletError } from '../../../src/errors.ts'
import { settle } from '../../support/fake-clock.ts'
import { vmUuid } from '../../support/signed-commands.ts'
import { Fixture, gate } from './fixture.ts'

const subject = { vm: 'web-1', uuid: vmUuid }

/** Every operation notes its beginning and its end, which come when the test says so or it is aborted. */
function watched(fixture: Fixture) {
  const open = gate()
  fixture.host.steps = [
    {
      name: 'one',
      apply: async ({ verb, signal }) => {
        fixture.host.note(`${verb} begins`)
        const aborted = Promise.withResolvers<void>()
        signal.addEventListener('abort', () => aborted.reject(signal.reason), { once: true })
        await Promise.race([open.promise, aborted.promise])
        fixture.host.note(`${verb} ends`)
      },
      undo: async ({ verb }) => fixture.host.note(`${verb} undone`)
    }
  ]
  return open
}

function backup(fixture: Fixture, changes: { arguments?: Record<string, unknown> } = {}) {
  const { subject: _none, ...claims } = fixture.claims({ verb: 'test.backup', ...changes })
  return claims
}

describe('beside a backup of a VM', () => {
  it('the VM may be changed', async () => {
    await using fixture = await Fixture.create()
    const open = watched(fixture)
    await fixture.receive(backup(fixture))
    await fixture.receive(fixture.claims())
    assert.deepEqual(fixture.host.done, ['test.backup begins', 'test.change begins'])
    open.open()
    await settle()
  })

  it('its disks are not replaced: that waits, and what is asked later waits for that', async () => {
    await using fixture = await Fixture.create()
    const open = watched(fixture)
    await fixture.receive(backup(fixture))
    await fixture.receive(fixture.claims({ verb: 'test.replace' }))
    const late = backup(fixture)
    await fixture.receive(late)
    assert.deepEqual(fixture.host.done, ['test.backup begins'])
    open.open()
    await settle()
    const begun = ['test.backup', 'test.replace', 'test.backup']
    assert.deepEqual(
      fixture.host.done,
      begun.flatMap((verb) => [`${verb} begins`, `${verb} ends`])
    )
  })

  it('another VM is replaced', async () => {
    await using fixture = await Fixture.create()
    const open = watched(fixture)
    await fixture.receive(backup(fixture, { arguments: { vm: 'web-2' } }))
    await fixture.receive(fixture.claims({ verb: 'test.replace' }))
    assert.deepEqual(fixture.host.done, ['test.backup begins', 'test.replace begins'])
    open.open()
    await settle()
  })

  it('it may be removed: backups that run and wait are cancelled first, and say why', async () => {
    await using fixture = await Fixture.create()
    const open = watched(fixture)
    const [running, waiting, elsewhere] = [
      backup(fixture),
      backup(fixture),
      backup(fixture, { arguments: { vm: 'web-2' } })
    ]
    for (const claims of [running, waiting, elsewhere]) await fixture.receive(claims)
    const removal = fixture.claims({ verb: 'test.remove' })
    await fixture.receive(removal)
    const error = fixture.resultOf(running.id)?.error
    assert.equal(error?.code, 'E_CANCELLED')
    assert.match(error?.message ?? '', /test\.remove of VM web-1 ended the operation/)
    assert.equal(fixture.resultOf(waiting.id)?.error?.code, 'E_CANCELLED')
    assert.equal(fixture.journal.find(running.id)?.cancelled, true)
    open.open()
    await settle()
    assert.deepEqual(fixture.host.done, [
      'test.backup begins',
      'test.backup begins',
      'test.backup undone',
      'test.remove begins',
      'test.backup ends',
      'test.remove ends'
    ])
    assert.equal(fixture.resultOf(removal.id)?.outcome, 'done')
    assert.equal(fixture.resultOf(elsewhere.id)?.outcome, 'done')
  })

  it('its removal ends none that was asked for after something else that it waits for', async () => {
    await using fixture = await Fixture.create()
    const open = watched(fixture)
    await fixture.receive(fixture.claims({ subject: { ...subject, generation: 1 } }))
    await fixture.receive(fixture.claims({ verb: 'test.remove', subject: { ...subject, generation: 2 } }))
    const replaced = fixture.claims({ verb: 'test.replace', subject: { ...subject, generation: 3 } })
    await fixture.receive(replaced)
    open.open()
    await settle()
    assert.equal(fixture.resultOf(replaced.id)?.outcome, 'done')
  })
})

describe('behind an operation that makes its VM', () => {
  const missing = async () => {
    throw new HostletError('E_NOT_FOUND', 'VM web-1 is not defined on this host.')
  }

  it('a command is to come again, also where that ends while it is looked at, and is taken then', async () => {
    await using fixture = await Fixture.create()
    const open = watched(fixture)
    const first = fixture.claims()
    await fixture.receive(first)
    const [looking, looked] = [gate(), gate()]
    fixture.host.check = async () => {
      looking.open()
      await looked.promise
      await missing()
    }
    const stop = fixture.claims({ verb: 'test.stop', subject: { ...subject, generation: 2 } })
    const refused = fixture.receive(stop)
    await looking.promise
    open.open()
    await settle()
    looked.open()
    await refused
    const error = fixture.sentOf('refusal').at(-1)?.error
    assert.equal(error?.code, 'E_BUSY')
    assert.match(error?.message ?? '', new RegExp(`not ended: VM web-1 is not .*hostlet op show ${first.id}`))
    fixture.host.check = async () => undefined
    await fixture.receive(stop)
    assert.equal(fixture.resultOf(stop.id)?.outcome, 'done')
  })

  it('nothing else changes: another VM is not there, and neither is it once nothing works on it', async () => {
    await using fixture = await Fixture.create()
    const open = watched(fixture)
    await fixture.receive(fixture.claims())
    fixture.host.check = missing
    const other = { vm: 'web-2', uuid: '22222222-6b53-4a3e-9d1c-0123456789ab', generation: 1 }
    await fixture.receive(fixture.claims({ verb: 'test.stop', subject: other, arguments: { vm: 'web-2' } }))
    assert.equal(fixture.refusalCode(), 'E_NOT_FOUND')
    fixture.host.check = async () => {
      throw new HostletError('E_CONFLICT', 'the name is taken.')
    }
    await fixture.receive(fixture.claims({ verb: 'test.stop', subject: { ...subject, generation: 2 } }))
    assert.equal(fixture.refusalCode(), 'E_CONFLICT')
    open.open()
    await settle()
    fixture.host.check = missing
    await fixture.receive(fixture.claims({ verb: 'test.stop', subject: { ...subject, generation: 2 } }))
    assert.equal(fixture.refusalCode(), 'E_NOT_FOUND')
  })
})
