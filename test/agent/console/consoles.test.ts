// Sessions on consoles of a host in memory, over a wire that the test holds: credit, limits, ends, and what is told of them.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import { type ConsoleLimits, ConsoleSessions, consoleLimits } from '../../../src/agent/console/consoles.ts'
import { backlogPauseBytes, type ConsoleGrant, stallMs } from '../../../src/agent/console/session.ts'
import { MemoryHypervisor } from '../../../src/agent/host/memory-hypervisor.ts'
import { HostletError } from '../../../src/errors.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import {
  type ConsoleFrame,
  consoleAttachMs,
  consoleWindowBytes,
  decodeConsoleFrame,
  encodeConsoleFrame
} from '../../../src/protocol/console.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { runningVm } from '../../support/memory-vms.ts'

const wait = { signal: AbortSignal.timeout(60_000) }
const command = '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'

class Rig {
  readonly clock = new FakeClock()
  readonly hypervisor = new MemoryHypervisor({ clock: this.clock })
  readonly consoles: ConsoleSessions
  readonly sent: ConsoleFrame[] = []
  readonly opened: Record<string, unknown>[] = []
  readonly closed: Record<string, unknown>[] = []
  /** Frames that the system has not taken. */
  readonly untaken: (() => void)[] = []
  isOnline = true
  takes = true
  readonly vms: { readonly vm: string; readonly uuid: string }[] = []

  private constructor(limits: Partial<ConsoleLimits>) {
    const { hypervisor, clock } = this
    this.consoles = new ConsoleSessions({
      ...{ hypervisor, clock, log: silentLogger },
      limits: { ...consoleLimits, ...limits }
    })
    const wire = {
      sendBytes: (bytes: Buffer, taken?: () => void) => {
        if (!this.isOnline) return false
        const frame = decodeConsoleFrame(bytes)
        // The session may use its memory again.
        this.sent.push(frame.type === 'data' ? { ...frame, data: Buffer.from(frame.data) } : frame)
        if (taken !== undefined) this.takes ? queueMicrotask(taken) : this.untaken.push(taken)
        return true
      }
    }
    this.consoles.attach(wire, {
      opened: (note) => this.opened.push({ ...note }),
      closed: (note) => this.closed.push({ ...note })
    })
  }

  static async make(limits: Partial<ConsoleLimits> = {}, vms = 1): Promise<Rig> {
    const rig = new Rig(limits)
    rig.hypervisor.open()
    for (let index = 1; index <= vms; index++) rig.vms.push(await runningVm(rig.hypervisor, `web-${index}`))
    return rig
  }

  grant(changes: Partial<ConsoleGrant> = {}, index = 0): ConsoleGrant {
    const { vm = '', uuid = '' } = this.vms[index] ?? {}
    const times = { idleMs: 60_000, longestMs: 600_000 }
    return {
      vm,
      uuid,
      session: randomUUID(),
      mode: 'write',
      by: 'ada',
      takeOver: false,
      ...times,
      ...changes
    }
  }

  async open(changes: Partial<ConsoleGrant> = {}, index = 0): Promise<string> {
    const grant = this.grant(changes, index)
    await this.consoles.open(grant, command, wait)
    return grant.session
  }

  /** Opens and attaches. */
  async on(changes: Partial<ConsoleGrant> = {}, index = 0): Promise<string> {
    const session = await this.open(changes, index)
    this.credit(session, consoleWindowBytes)
    return session
  }

  credit(session: string, bytes: number): void {
    this.consoles.receive(encodeConsoleFrame({ type: 'credit', session, bytes }))
  }

  type(session: string, text: string | Buffer): void {
    this.consoles.receive(encodeConsoleFrame({ type: 'data', session, data: Buffer.from(text) }))
  }

  shown(session: string): string {
    const data = this.sent.filter((frame) => frame.type === 'data' && frame.session === session)
    return Buffer.concat(
      data.map((frame) => (frame.type === 'data' ? frame.data : Buffer.alloc(0)))
    ).toString()
  }

  endOf(session: string): string | undefined {
    const close = this.sent.find((frame) => frame.type === 'close' && frame.session === session)
    return close?.type === 'close' ? close.why : undefined
  }
}

/** Streams and promises come to rest. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
}

function rejectsWith(code: string, pattern: RegExp) {
  return (error: unknown) =>
    error instanceof HostletError && error.code === code && pattern.test(error.message)
}

describe('a console session', () => {
  it('carries what is typed to the guest and what the guest sends back, and gives credit for the former', async () => {
    const rig = await Rig.make()
    const session = await rig.on()
    rig.type(session, 'uname\n')
    await settled()
    assert.equal(rig.hypervisor.consoles.typed.get('web-1'), 'uname\n')
    assert.equal(rig.shown(session), 'uname\n')
    assert.deepEqual(
      rig.sent.filter(({ type }) => type === 'credit'),
      [{ type: 'credit', session, bytes: 6 }]
    )
  })

  it('shows nothing before its operator attaches, and then everything since it was opened', async () => {
    const rig = await Rig.make()
    const session = await rig.open()
    rig.hypervisor.consoles.say('web-1', 'booting')
    await settled()
    assert.equal(rig.shown(session), '')
    rig.credit(session, 100)
    await settled()
    assert.equal(rig.shown(session), 'booting')
  })

  it('ends where nobody attaches in time, and the port is free again', async () => {
    const rig = await Rig.make()
    const session = await rig.open()
    await rig.clock.advance(consoleAttachMs)
    assert.equal(rig.endOf(session), 'unattached')
    await settled()
    assert.equal(rig.hypervisor.consoles.isOpen('web-1'), false)
    assert.equal(rig.consoles.size, 0)
  })

  it('sends no byte beyond its credit, and none is lost', async () => {
    const rig = await Rig.make()
    const session = await rig.open()
    rig.credit(session, 10)
    rig.hypervisor.consoles.say('web-1', 'x'.repeat(25))
    await settled()
    assert.equal(rig.shown(session).length, 10)
    rig.credit(session, 10)
    await settled()
    assert.equal(rig.shown(session).length, 20)
    rig.credit(session, 10)
    await settled()
    assert.equal(rig.shown(session).length, 25)
  })

  it('hands the socket one frame at a time, so that nothing waits behind more than that', async () => {
    const rig = await Rig.make()
    const session = await rig.on()
    rig.takes = false
    rig.hypervisor.consoles.say('web-1', Buffer.alloc(consoleWindowBytes, 'y'))
    await settled()
    assert.equal(rig.shown(session).length, 16 * 1024)
    rig.untaken.shift()?.()
    assert.equal(rig.shown(session).length, 32 * 1024)
  })

  it('does not read a flood that nobody takes, and does not hold the guest up for ever', async () => {
    const rig = await Rig.make()
    const session = await rig.open()
    rig.credit(session, 1)
    let said = 0
    // The guest says as much as is read.
    while (rig.hypervisor.consoles.say('web-1', Buffer.alloc(8 * 1024, 'y')) && said < 1_000) {
      said++
      await settled()
    }
    assert.ok(said * 8 * 1024 < 4 * backlogPauseBytes, `${said} chunks were taken in`)
    await rig.clock.advance(stallMs)
    assert.equal(rig.endOf(session), 'slow')
    await settled()
    assert.equal(rig.hypervisor.consoles.isOpen('web-1'), false)
  })

  it('goes on for a reader that is slow and takes something now and then', async () => {
    const rig = await Rig.make()
    const session = await rig.open()
    rig.credit(session, 1)
    rig.hypervisor.consoles.say('web-1', 'slow')
    await settled()
    for (const at of [2, 3, 4]) {
      await rig.clock.advance(stallMs - 1)
      rig.credit(session, 1)
      await settled()
      assert.equal(rig.shown(session).length, at)
    }
    assert.equal(rig.endOf(session), undefined)
  })

  it('ends after a while without a key, however much is shown', async () => {
    const rig = await Rig.make()
    const session = await rig.on({ idleMs: 30_000 })
    await rig.clock.advance(20_000)
    rig.type(session, 'a')
    await rig.clock.advance(20_000)
    assert.equal(rig.endOf(session), undefined)
    rig.hypervisor.consoles.say('web-1', 'busy')
    await settled()
    await rig.clock.advance(10_000)
    assert.equal(rig.endOf(session), 'idle')
  })

  it('that only watches ends after a while in which nothing is shown', async () => {
    const rig = await Rig.make()
    const session = await rig.on({ mode: 'read', idleMs: 30_000 })
    await rig.clock.advance(20_000)
    rig.hypervisor.consoles.say('web-1', 'busy')
    await settled()
    await rig.clock.advance(20_000)
    assert.equal(rig.endOf(session), undefined)
    await rig.clock.advance(10_000)
    assert.equal(rig.endOf(session), 'idle')
  })

  it('ends when it has been open for as long as one may be', async () => {
    const rig = await Rig.make()
    const session = await rig.on({ idleMs: 60_000, longestMs: 90_000 })
    await rig.clock.advance(50_000)
    rig.type(session, 'a')
    await rig.clock.advance(40_000)
    assert.equal(rig.endOf(session), 'longest')
  })

  it('stays over a reboot, shows the last words of a VM that goes off, and ends then', async () => {
    const rig = await Rig.make()
    const session = await rig.on()
    await rig.hypervisor.reset('web-1', wait)
    await settled()
    assert.equal(rig.endOf(session), undefined)
    rig.hypervisor.consoles.say('web-1', 'Power down')
    rig.hypervisor.shutDownGuest('web-1')
    await settled()
    assert.equal(rig.shown(session), 'Power down')
    assert.equal(rig.endOf(session), 'off')
  })

  it('shows last words that wait for credit before it ends', async () => {
    const rig = await Rig.make()
    const session = await rig.open()
    rig.credit(session, 4)
    rig.hypervisor.consoles.say('web-1', 'goodbye')
    rig.hypervisor.shutDownGuest('web-1')
    await settled()
    assert.equal(rig.endOf(session), undefined)
    rig.credit(session, 4)
    await settled()
    assert.equal(rig.shown(session), 'goodbye')
    assert.equal(rig.endOf(session), 'off')
  })

  it('says why where libvirt went away, or somebody on the host took the port', async () => {
    const rig = await Rig.make()
    const first = await rig.on()
    rig.hypervisor.consoles.end('web-1')
    await settled()
    assert.equal(rig.endOf(first), 'libvirt')
    assert.match(
      String(rig.closed.at(-1)?.message),
      /VM web-1 is running, and its console was closed on the host/
    )
    const second = await rig.on()
    rig.hypervisor.setStatus('away')
    await settled()
    assert.equal(rig.endOf(second), 'libvirt')
    assert.match(String(rig.closed.at(-1)?.message), /libvirt went away/)
  })

  it('ends with the connection to the scheduler, and with the agent', async () => {
    const rig = await Rig.make({}, 2)
    const first = await rig.on()
    rig.isOnline = false
    rig.consoles.disconnected()
    assert.equal(rig.consoles.size, 0)
    assert.equal(rig.closed.at(-1)?.why, 'lost')
    rig.isOnline = true
    assert.equal(rig.endOf(first), undefined)
    const second = await rig.on({}, 1)
    await rig.consoles[Symbol.asyncDispose]()
    assert.equal(rig.endOf(second), 'stopping')
    await assert.rejects(rig.open(), rejectsWith('E_INTERRUPTED', /agent stops/))
  })
})

describe('the rules of frames', () => {
  const breaches: readonly [string, Partial<ConsoleGrant>, (rig: Rig, session: string) => void][] = [
    [
      'typing more than there is credit for',
      {},
      (rig, session) => {
        rig.hypervisor.consoles.answer = () => undefined
        for (let sent = 0; sent <= consoleWindowBytes; sent += 16_384) rig.type(session, Buffer.alloc(16_384))
      }
    ],
    ['typing where one only watches', { mode: 'read' }, (rig, session) => rig.type(session, 'a')],
    ['a credit beyond the window', {}, (rig, session) => rig.credit(session, consoleWindowBytes)]
  ]
  for (const [name, changes, breach] of breaches)
    it(`end a session that breaks them: ${name}`, async () => {
      const rig = await Rig.make()
      const session = await rig.on(changes)
      breach(rig, session)
      assert.equal(rig.endOf(session), 'protocol')
      assert.equal(rig.consoles.size, 0)
    })

  it('end one in which something is typed before anybody attached', async () => {
    const rig = await Rig.make()
    const session = await rig.open()
    rig.type(session, 'a')
    assert.equal(rig.endOf(session), 'protocol')
    assert.equal(rig.hypervisor.consoles.typed.get('web-1'), undefined)
  })

  it('answer what is about no session with an end, and an end with nothing', async () => {
    const rig = await Rig.make()
    const session = randomUUID()
    rig.type(session, 'a')
    assert.equal(rig.endOf(session), 'unknown')
    rig.sent.length = 0
    rig.consoles.receive(encodeConsoleFrame({ type: 'close', session, why: 'left', message: '' }))
    assert.deepEqual(rig.sent, [])
    assert.throws(
      () => rig.consoles.receive(Buffer.from('no frame')),
      rejectsWith('E_BAD_REQUEST', /console frame/)
    )
  })
})

describe('a console', () => {
  it('has one writer: a second is told who it is and since when, and may take it over', async () => {
    const rig = await Rig.make()
    const first = await rig.on({ by: 'ada' })
    await assert.rejects(
      rig.open({ by: 'bob' }),
      rejectsWith('E_CONFLICT', /taken by ada since 20.*--take-over/)
    )
    const second = await rig.on({ by: 'bob', takeOver: true })
    assert.equal(rig.endOf(first), 'taken')
    assert.match(String(rig.closed[0]?.message), /bob took the console over/)
    rig.type(second, 'b')
    await settled()
    assert.equal(rig.shown(second), 'b')
  })

  it('is watched by others, who see what the writer sees and hold up nobody', async () => {
    const rig = await Rig.make()
    const writer = await rig.on()
    const watcher = await rig.on({ mode: 'read', by: 'bob' })
    const stuck = await rig.open({ mode: 'read', by: 'eve' })
    rig.credit(stuck, 1)
    rig.type(writer, 'hello')
    await settled()
    assert.deepEqual([rig.shown(writer), rig.shown(watcher), rig.shown(stuck)], ['hello', 'hello', 'h'])
    await rig.clock.advance(stallMs)
    assert.equal(rig.endOf(stuck), 'slow')
    assert.deepEqual([rig.endOf(writer), rig.endOf(watcher)], [undefined, undefined])
  })

  it('is taken from somebody on the host itself only where that was asked for', async () => {
    const rig = await Rig.make()
    const { stream } = await rig.hypervisor.openConsole('web-1', { force: false }, wait)
    const over = new Promise((resolve) => stream.once('close', resolve))
    stream.on('error', () => undefined).resume()
    await assert.rejects(rig.open(), rejectsWith('E_CONFLICT', /open on the host itself/))
    await rig.on({ takeOver: true })
    await over
    assert.equal(rig.consoles.size, 1)
  })

  it('has so many sessions and no more, on one VM and on the host', async () => {
    const rig = await Rig.make({ sessionsMax: 3, sessionsPerVmMax: 2 }, 3)
    await rig.on({ mode: 'read' })
    await rig.on({ mode: 'read' })
    await assert.rejects(rig.open({ mode: 'read' }), rejectsWith('E_CAPACITY', /sessionsPerVmMax/))
    await rig.on({}, 1)
    await assert.rejects(rig.open({}, 2), rejectsWith('E_CAPACITY', /sessionsMax/))
    assert.equal(rig.consoles.size, 3)
  })

  it('has no more of them where they are asked for at once', async () => {
    const rig = await Rig.make({ sessionsMax: 2 }, 3)
    const asked = await Promise.allSettled([rig.open({}, 0), rig.open({}, 1), rig.open({}, 2)])
    assert.equal(asked.filter(({ status }) => status === 'fulfilled').length, 2)
    assert.equal(rig.consoles.size, 2)
  })

  it('opens a session once, however often it is asked for', async () => {
    const rig = await Rig.make()
    const grant = rig.grant()
    await Promise.all([rig.consoles.open(grant, command, wait), rig.consoles.open(grant, command, wait)])
    assert.equal(rig.opened.length, 1)
  })

  it('is told of with who, when, why and how much, and never with what', async () => {
    const rig = await Rig.make()
    const session = await rig.on({ by: 'ada (key 7)' })
    rig.type(session, 'secret-word')
    await settled()
    await rig.clock.advance(5_000)
    rig.consoles.receive(
      encodeConsoleFrame({ type: 'close', session, why: 'left', message: 'the operator left' })
    )
    const { vm, uuid } = rig.vms[0] ?? {}
    const who = { session, vm, uuid, mode: 'write', by: 'ada (key 7)' }
    assert.deepEqual(rig.opened, [{ command, ...who }])
    const told = {
      why: 'left',
      message: 'the operator left',
      durationMs: 5_000,
      shownBytes: 11,
      typedBytes: 11
    }
    assert.deepEqual(rig.closed, [{ ...who, ...told }])
    assert.equal(rig.endOf(session), undefined)
  })
})
