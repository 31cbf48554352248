// What a host makes of a command: refusals with their codes, one effect for each id, one operation a VM at a time.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import { CommandVerifier } from '../../../src/agent/operations/command-verifier.ts'
import { readsAtOnceMax, readsWaitingMax } from '../../../src/agent/operations/dispatch.ts'
import { recordRetryMs } from '../../../src/agent/operations/engine.ts'
import { HostletError } from '../../../src/errors.ts'
import { settle } from '../../support/fake-clock.ts'
import { createSigner, hostId, vmUuid } from '../../support/signed-commands.ts'
import { Fixture, gate } from './fixture.ts'

const other = (generation = 1) => ({ vm: 'web-2', uuid: randomUUID(), generation })

describe('a command that is accepted', () => {
  it('is acknowledged, carried out step by step, and answered', async () => {
    await using fixture = await Fixture.create()
    const claims = fixture.claims()
    await fixture.receive(claims)
    assert.deepEqual(
      fixture.sent.map(({ type }) => type),
      ['ack', 'progress', 'progress', 'result']
    )
    assert.deepEqual(fixture.sentOf('ack'), [{ type: 'ack', command: claims.id, repeated: false }])
    assert.deepEqual(fixture.host.done, ['one', 'two'])
    assert.deepEqual(fixture.sentOf('result')[0]?.result.value, { ok: true })
    assert.equal(fixture.changed, 1)
  })

  it('is recorded before it is acknowledged', async () => {
    await using fixture = await Fixture.create()
    const claims = fixture.claims()
    const states: unknown[] = []
    fixture.sent.push = (message) => states.push([message.type, fixture.journal.find(claims.id)?.state])
    await fixture.receive(claims)
    assert.deepEqual(states[0], ['ack', 'running'])
    assert.deepEqual(states.at(-1), ['result', 'done'])
  })

  it('takes effect once, however often it is sent, and is answered with what was recorded', async () => {
    await using fixture = await Fixture.create()
    const claims = fixture.claims()
    const jws = await fixture.signer.sign(claims)
    await Promise.all([1, 2, 3].map(() => fixture.dispatcher.receive(jws)))
    await settle()
    assert.deepEqual(fixture.host.done, ['one', 'two'])
    assert.deepEqual(
      fixture.sentOf('ack').map(({ repeated }) => repeated),
      [false, true, true]
    )
    fixture.restart()
    await fixture.dispatcher.receive(jws)
    assert.deepEqual(fixture.host.done, ['one', 'two'])
    assert.deepEqual(fixture.sentOf('result')[0]?.result.value, { ok: true })
  })

  it('is taken before a later one of its VM, however long its signature takes to be checked', async () => {
    await using fixture = await Fixture.create()
    const slow = gate()
    const { verify } = CommandVerifier.prototype
    let checks = 0
    const verifier = new CommandVerifier({ ...fixture, hostId, keys: () => [fixture.signer.publicKey] })
    verifier.verify = async (jws) => {
      if (++checks === 1) await slow.promise
      return await verify.call(verifier, jws)
    }
    fixture.restart({ verifier, waitingMax: 8 })
    const first = fixture.claims()
    const later = [2, 3].map((generation) =>
      fixture.claims({ subject: { vm: 'web-1', uuid: vmUuid, generation } })
    )
    const elsewhere = fixture.claims({ subject: other(), arguments: { vm: 'web-2' } })
    const signed = await Promise.all(
      [first, ...later, elsewhere].map((claims) => fixture.signer.sign(claims))
    )
    const received = signed.map((jws) => fixture.dispatcher.receive(jws))
    await settle()
    slow.open()
    await Promise.all(received)
    await settle()
    assert.deepEqual(fixture.sentOf('refusal'), [])
    assert.equal(fixture.host.done.length, 8)
  })

  it('is answered with what was recorded even after its expiry', async () => {
    await using fixture = await Fixture.create()
    const claims = fixture.claims()
    await fixture.receive(claims)
    await fixture.clock.advance(3_600_000)
    fixture.sent.length = 0
    await fixture.receive(claims)
    assert.deepEqual(
      fixture.sent.map(({ type }) => type),
      ['ack', 'result']
    )
  })

  it('leaves its result to be sent again until that is acknowledged', async () => {
    await using fixture = await Fixture.create()
    const claims = fixture.claims()
    await fixture.receive(claims)
    fixture.restart()
    assert.deepEqual(
      fixture.dispatcher.unacknowledged().map(({ command }) => command),
      [claims.id]
    )
    fixture.dispatcher.acknowledge(claims.id)
    assert.deepEqual(fixture.dispatcher.unacknowledged(), [])
  })

  it('leaves none of its arguments on disk once it has ended', async () => {
    await using fixture = await Fixture.create()
    const claims = fixture.claims({ arguments: { vm: 'web-1', size: 424_242 } })
    await fixture.receive(claims)
    assert.deepEqual(fixture.journal.find(claims.id)?.claims.arguments, {})
  })
})

describe('a command that is refused', () => {
  const refusals: Record<string, { code: string; claims: (fixture: Fixture) => object }> = {
    'for another host': { code: 'E_AUTH', claims: (fixture) => fixture.claims({ audience: 'host-2' }) },
    'made in the future': {
      code: 'E_BAD_REQUEST',
      claims: ({ clock }) => baseClaims(clock.now() + 3_600_000)
    },
    'valid for too long': {
      code: 'E_BAD_REQUEST',
      claims: (fixture) => fixture.claims({ expiresAt: fixture.clock.now() + 30 * 86_400_000 })
    },
    'with an unknown verb': {
      code: 'E_UNSUPPORTED',
      claims: (fixture) => fixture.claims({ verb: 'vm.migrate' })
    },
    'with an argument that the verb does not know': {
      code: 'E_BAD_REQUEST',
      claims: (fixture) => fixture.claims({ arguments: { vm: 'web-1', path: '../../etc' } })
    },
    'with a name that is a path': {
      code: 'E_BAD_REQUEST',
      claims: (fixture) => fixture.claims({ arguments: { vm: '../web-1' } })
    },
    'about one VM with arguments about another': {
      code: 'E_BAD_REQUEST',
      claims: (fixture) => fixture.claims({ arguments: { vm: 'web-2' } })
    },
    'that changes a VM without a subject': {
      code: 'E_BAD_REQUEST',
      claims: (fixture) => {
        const { subject: _dropped, ...claims } = fixture.claims()
        return claims
      }
    },
    'with a claim too many': {
      code: 'E_BAD_REQUEST',
      claims: (fixture) => ({ ...fixture.claims(), admin: true })
    }
  }
  function baseClaims(issuedAt: number) {
    return {
      id: randomUUID(),
      verb: 'test.change',
      audience: 'host-1',
      issuedAt,
      expiresAt: issuedAt + 600_000,
      subject: other(),
      arguments: { vm: 'web-2' }
    }
  }

  for (const [what, { code, claims }] of Object.entries(refusals)) {
    it(`${what}: ${code}, and nothing is recorded`, async () => {
      await using fixture = await Fixture.create()
      await fixture.receive(claims(fixture))
      assert.equal(fixture.refusalCode(), code)
      assert.deepEqual(fixture.host.done, [])
      assert.deepEqual(fixture.journal.unfinished(), [])
      assert.equal(fixture.journal.generationOf(vmUuid), undefined)
    })
  }

  it('expired beyond the allowed skew: E_STALE; within it, it is taken', async () => {
    await using fixture = await Fixture.create()
    await fixture.receive(baseClaims(fixture.clock.now() - 700_000))
    assert.equal(fixture.refusalCode(), 'E_STALE')
    await fixture.receive(baseClaims(fixture.clock.now() - 630_000))
    assert.equal(fixture.sentOf('ack').length, 1)
  })

  it('that another key signed: E_AUTH, without a word about what it said', async () => {
    await using fixture = await Fixture.create()
    const foreign = await createSigner('key-1')
    await fixture.dispatcher.receive(await foreign.sign(fixture.claims()))
    const [refusal] = fixture.sentOf('refusal')
    assert.equal(refusal?.error.code, 'E_AUTH')
    assert.equal(refusal?.command, undefined)
  })

  it('whose key, type or header is not as it must be: E_AUTH', async () => {
    await using fixture = await Fixture.create()
    for (const header of [{ kid: 'key-2' }, { typ: 'JWT' }, { jku: 'https://evil.example/' }]) {
      await fixture.dispatcher.receive(await fixture.signer.sign(fixture.claims(), header))
      assert.equal(fixture.refusalCode(), 'E_AUTH', JSON.stringify(header))
    }
    assert.equal(fixture.sentOf('refusal').length, 3)
  })

  it('that is signed by nobody: E_AUTH', async () => {
    await using fixture = await Fixture.create()
    const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const header = { alg: 'none', typ: 'hostlet-command+jwt', kid: 'key-1' }
    await fixture.dispatcher.receive(`${encode(header)}.${encode(fixture.claims())}.`)
    assert.equal(fixture.refusalCode(), 'E_AUTH')
  })

  it('whose generation is not newer than the journal knows: E_STALE', async () => {
    await using fixture = await Fixture.create()
    await fixture.receive(fixture.claims({ subject: { vm: 'web-1', uuid: vmUuid, generation: 5 } }))
    for (const generation of [4, 5]) {
      await fixture.receive(fixture.claims({ subject: { vm: 'web-1', uuid: vmUuid, generation } }))
      assert.equal(fixture.refusalCode(), 'E_STALE')
    }
    assert.equal(fixture.sentOf('ack').length, 1)
  })

  it('whose generation is not newer than the VM itself knows, when the journal is lost: E_STALE', async () => {
    await using fixture = await Fixture.create()
    fixture.generations.set(vmUuid, 7)
    await fixture.receive(fixture.claims({ subject: { vm: 'web-1', uuid: vmUuid, generation: 7 } }))
    assert.equal(fixture.refusalCode(), 'E_STALE')
    await fixture.receive(fixture.claims({ subject: { vm: 'web-1', uuid: vmUuid, generation: 8 } }))
    assert.equal(fixture.sentOf('ack').length, 1)
  })

  it('under an id that means something else: E_CONFLICT', async () => {
    await using fixture = await Fixture.create()
    const claims = fixture.claims()
    await fixture.receive(claims)
    await fixture.receive({ ...claims, arguments: { vm: 'web-1', size: 2 } })
    assert.equal(fixture.refusalCode(), 'E_CONFLICT')
  })

  it('that the verb knows to be impossible: its code, and nothing is recorded', async () => {
    await using fixture = await Fixture.create()
    fixture.host.check = async () => {
      throw new HostletError('E_NOT_FOUND', 'there is no such profile')
    }
    const claims = fixture.claims()
    await fixture.receive(claims)
    assert.equal(fixture.refusalCode(), 'E_NOT_FOUND')
    assert.equal(fixture.journal.find(claims.id), undefined)
    fixture.host.check = async () => undefined
    await fixture.receive(fixture.claims())
    assert.equal(fixture.sentOf('ack').length, 1)
  })

  it('for good stays refused when it comes once more, whatever has changed meanwhile', async () => {
    await using fixture = await Fixture.create()
    const jws = await fixture.signer.sign(fixture.claims())
    fixture.host.check = async () => {
      throw new HostletError('E_CONFLICT', 'the VM is stopped')
    }
    // As over a connection that is gone, and over the next one.
    const both = [fixture.dispatcher.receive(jws), fixture.dispatcher.receive(jws)]
    await both[0]
    fixture.host.check = async () => undefined
    await both[1]
    await settle()
    assert.deepEqual(
      fixture.sent.map((message) => message.type === 'refusal' && message.error.message),
      ['the VM is stopped', 'the VM is stopped']
    )
    assert.deepEqual(fixture.host.done, [])
  })

  it('for now is taken when it comes once more', async () => {
    await using fixture = await Fixture.create()
    const jws = await fixture.signer.sign(fixture.claims())
    fixture.host.check = async () => {
      throw new HostletError('E_CAPACITY', 'the pool is full')
    }
    await fixture.dispatcher.receive(jws)
    fixture.host.check = async () => undefined
    await fixture.dispatcher.receive(jws)
    await settle()
    assert.equal(fixture.refusalCode(), 'E_CAPACITY')
    assert.deepEqual(fixture.host.done, ['one', 'two'])
  })

  it('beyond what may run and wait: E_BUSY, until there is room', async () => {
    await using fixture = await Fixture.create()
    const hold = gate()
    fixture.host.steps = [{ name: 'hold', apply: () => hold.promise }]
    const command = () => fixture.claims({ subject: { ...other(), vm: 'web-1' } })
    for (let count = 0; count < 4; count++) await fixture.receive(command())
    assert.equal(fixture.sentOf('ack').length, 3)
    assert.equal(fixture.refusalCode(), 'E_BUSY')
    hold.open()
    await settle()
    await fixture.receive(command())
    assert.equal(fixture.sentOf('ack').length, 4)
  })

  it('while the agent stops: E_UNAVAILABLE under its id, so that it is sent again', async () => {
    await using fixture = await Fixture.create()
    await fixture.dispatcher.stop(0)
    const claims = fixture.claims()
    await fixture.receive(claims)
    assert.equal(fixture.refusalCode(), 'E_UNAVAILABLE')
    assert.equal(fixture.sentOf('refusal')[0]?.command, claims.id)
    assert.equal(fixture.journal.find(claims.id), undefined)
  })

  it('whose check the stop of the agent cuts short: E_UNAVAILABLE, for nothing happened', async () => {
    await using fixture = await Fixture.create()
    const [checking, hold] = [gate(), gate()]
    fixture.host.check = () => {
      checking.open()
      return hold.promise
    }
    const claims = fixture.claims()
    const received = fixture.receive(claims)
    await checking.promise
    const stopped = fixture.dispatcher.stop(0)
    hold.open()
    await Promise.all([received, stopped])
    assert.equal(fixture.sentOf('refusal').at(-1)?.command, claims.id)
    assert.equal(fixture.refusalCode(), 'E_UNAVAILABLE')
    assert.equal(fixture.journal.find(claims.id), undefined)
  })

  it('whose check takes too long: E_UNAVAILABLE, for nothing happened', async () => {
    await using fixture = await Fixture.create()
    fixture.host.check = () => Promise.reject(new HostletError('E_TIMEOUT', 'libvirt took too long'))
    await fixture.receive(fixture.claims())
    assert.equal(fixture.refusalCode(), 'E_UNAVAILABLE')
  })
})

describe('operations beside each other', () => {
  it('wait for one another on one VM, in the order of acceptance', async () => {
    await using fixture = await Fixture.create()
    const hold = gate()
    let running = 0
    const overlaps: number[] = []
    fixture.host.steps = [
      {
        name: 'hold',
        apply: async () => {
          overlaps.push(++running)
          await hold.promise
          running--
        }
      }
    ]
    const [first, second] = [1, 2].map((generation) =>
      fixture.claims({ subject: { vm: 'web-1', uuid: vmUuid, generation } })
    )
    await fixture.receive(first)
    await fixture.receive(second)
    hold.open()
    await settle()
    assert.deepEqual(overlaps, [1, 1])
    assert.deepEqual(
      fixture.sentOf('result').map(({ result }) => result.command),
      [first?.id, second?.id]
    )
  })

  it('are recorded in the order of arrival, however long the check of the first takes', async () => {
    await using fixture = await Fixture.create()
    const slow = gate()
    let checks = 0
    fixture.host.check = async () => (checks++ === 0 ? await slow.promise : undefined)
    const subject = { vm: 'web-1', uuid: randomUUID(), generation: 1 }
    const first = fixture.claims({ subject })
    const second = fixture.claims({ subject: { ...subject, generation: 2 } })
    const other = fixture.claims({
      subject: { vm: 'web-2', uuid: randomUUID(), generation: 1 },
      arguments: { vm: 'web-2' }
    })
    const texts = await Promise.all([first, second, other].map((claims) => fixture.signer.sign(claims)))
    const receive = (text: string) => fixture.dispatcher.receive(text)
    const received = texts.slice(0, 1).map(receive)
    // Signatures are looked at side by side: the first check is to be of the first.
    while (checks === 0) await settle()
    received.push(...texts.slice(1).map(receive))
    await received[2]
    await settle()
    assert.deepEqual(
      fixture.sentOf('ack').map(({ command }) => command),
      [other.id],
      'another VM is not kept waiting'
    )
    slow.open()
    await Promise.all(received)
    await settle()
    assert.deepEqual(fixture.sentOf('refusal'), [])
    assert.deepEqual(
      fixture.sentOf('ack').map(({ command }) => command),
      [other.id, first.id, second.id]
    )
  })

  it('run at the same time on different VMs', async () => {
    await using fixture = await Fixture.create()
    const hold = gate()
    let running = 0
    fixture.host.steps = [
      {
        name: 'hold',
        apply: async () => {
          running++
          await hold.promise
        }
      }
    ]
    await fixture.receive(fixture.claims())
    await fixture.receive(fixture.claims({ subject: other(), arguments: { vm: 'web-2' } }))
    assert.equal(running, 2)
    hold.open()
    await settle()
  })
})

describe('a command that only looks', () => {
  const look = (fixture: Fixture) => {
    const { subject: _none, ...claims } = fixture.claims({ verb: 'test.look' })
    return claims
  }

  it('is acknowledged with its answer, is not journaled, and is answered again until that is acknowledged', async () => {
    await using fixture = await Fixture.create()
    const claims = look(fixture)
    await fixture.receive(claims)
    assert.deepEqual(
      fixture.sent.map(({ type }) => type),
      ['ack', 'result']
    )
    assert.equal(fixture.journal.find(claims.id), undefined)
    assert.equal(fixture.dispatcher.unacknowledged().length, 1)
    await fixture.receive(claims)
    assert.deepEqual(fixture.host.done, ['one', 'two'])
    assert.equal(fixture.sentOf('result').length, 2)
    fixture.dispatcher.acknowledge(claims.id)
    assert.equal(fixture.dispatcher.unacknowledged().length, 0)
  })

  it('does not wait behind changes', async () => {
    await using fixture = await Fixture.create()
    const hold = gate()
    fixture.host.steps = [{ name: 'hold', apply: () => hold.promise }]
    for (let count = 0; count < 3; count++)
      await fixture.receive(fixture.claims({ subject: { ...other(), vm: 'web-1' } }))
    fixture.host.steps = []
    await fixture.receive(look(fixture))
    assert.equal(fixture.sentOf('result').length, 1)
    hold.open()
    await settle()
  })

  it('is written down once it has a place, and not at all where there is none', async () => {
    await using fixture = await Fixture.create()
    const open = gate()
    const noted: string[] = []
    fixture.restart({ trail: { note: async ({ kind }) => void noted.push(kind) } })
    fixture.host.steps = [{ name: 'look', apply: () => open.promise }]
    for (let count = 0; count < readsAtOnceMax + readsWaitingMax + 10; count++) {
      const { subject: _none, ...look } = fixture.claims({ verb: 'test.look' })
      await fixture.receive(look)
    }
    const count = (kind: string) => noted.filter((each) => each === kind).length
    assert.deepEqual([count('accepted'), count('refused')], [readsAtOnceMax + readsWaitingMax, 10])
    open.open()
    await settle()
  })

  it('says at once that the hypervisor is away', async () => {
    await using fixture = await Fixture.create()
    fixture.restart({ readiness: { isReady: () => false, untilReady: () => new Promise(() => undefined) } })
    fixture.host.steps = [
      {
        name: 'look',
        apply: async () => {
          throw new HostletError('E_UNAVAILABLE', 'libvirt is away')
        }
      }
    ]
    await fixture.receive(look(fixture))
    assert.equal(fixture.sentOf('result')[0]?.result.error?.code, 'E_UNAVAILABLE')
  })
})

describe('the journal', () => {
  it('that cannot be written holds an operation and its VM back, and never drops it', async () => {
    await using fixture = await Fixture.create()
    const { journal, clock, host } = fixture
    const [begin, turnBack] = [journal.begin.bind(journal), journal.turnBack.bind(journal)]
    let isFull = true
    const full = () => {
      if (isFull) throw new HostletError('E_CAPACITY', 'the disk is full')
    }
    journal.begin = (id) => {
      full()
      begin(id)
    }
    journal.turnBack = (id, failure) => {
      full()
      turnBack(id, failure)
    }
    await fixture.receive(fixture.claims())
    await fixture.receive(fixture.claims({ subject: { vm: 'web-1', uuid: vmUuid, generation: 2 } }))
    await clock.advance(2 * recordRetryMs)
    assert.deepEqual([host.done, fixture.sentOf('ack').length], [[], 2])
    isFull = false
    await clock.advance(recordRetryMs)
    assert.deepEqual(host.done, ['one', 'two', 'one', 'two'])
    isFull = true
    journal.begin = begin
    journal.checkpoint = full
    await fixture.receive(fixture.claims({ subject: { vm: 'web-1', uuid: vmUuid, generation: 3 } }))
    await clock.advance(2 * recordRetryMs)
    assert.equal(fixture.sentOf('result').length, 2)
    isFull = false
    await clock.advance(recordRetryMs)
    assert.equal(fixture.sentOf('result').at(-1)?.result.error?.code, 'E_CAPACITY')
    assert.deepEqual(host.done.slice(4), ['one', 'undo one'])
  })
})

describe('a result', () => {
  it('that the disk refuses is written later, and told only then', async () => {
    await using fixture = await Fixture.create()
    const { journal, clock } = fixture
    const finish = journal.finish.bind(journal)
    let refusals = 2
    journal.finish = (result) => {
      if (refusals-- > 0) throw new HostletError('E_CAPACITY', 'the disk is full')
      finish(result)
    }
    await fixture.receive(fixture.claims())
    assert.deepEqual(fixture.sentOf('result'), [])
    await clock.advance(2 * recordRetryMs)
    assert.equal(fixture.sentOf('result')[0]?.result.outcome, 'done')
    assert.equal(fixture.dispatcher.unacknowledged().length, 1)
  })

  it('that does not fit its schema is told as a bug, not sent', async () => {
    await using fixture = await Fixture.create()
    fixture.host.value = { ok: 'yes' }
    await fixture.receive(fixture.claims())
    assert.equal(fixture.sentOf('result')[0]?.result.error?.code, 'E_INTERNAL')
  })

  it('is bounded in what its error says', async () => {
    await using fixture = await Fixture.create()
    fixture.host.steps = [
      {
        name: 'fail',
        apply: async () => {
          throw new HostletError('E_CONFLICT', 'x'.repeat(100_000))
        }
      }
    ]
    await fixture.receive(fixture.claims())
    assert.equal(fixture.sentOf('result')[0]?.result.error?.message.length, 4_096)
  })
})
