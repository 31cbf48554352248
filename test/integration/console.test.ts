// The serial console of a real guest through agent and scheduler: a terminal on it, one writer, a flood that holds up nobody, and no trace of what was said.

import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { parse, stringify } from 'yaml'
import { Cleaner } from '../../scripts/first-light/cleaner.ts'
import { Fleet } from '../../scripts/first-light/fleet.ts'
import { createSettings } from '../../scripts/first-light/settings.ts'
import { enroll, startAgent } from '../../scripts/first-light/vm-life.ts'
import type { AuditList, ConsoleReply, HostDetail, OperationReply, VmReply } from '../../src/protocol/api.ts'
import { Operator } from '../scheduler/support/operator.ts'
import { cannotProvision, guestPath } from './provision-host.ts'

const run = promisify(execFile)
const patienceMs = 60_000
/** More than is under way anywhere between guest and operator. */
const floodBytes = 600_000
const missing =
  (await cannotProvision()) ||
  (process.getuid?.() !== 0 && 'it needs root') ||
  (spawnSync('script', ['--version']).status !== 0 && 'there is no "script" to make a terminal')

describe('the console of a VM', { skip: missing, timeout: 420_000 }, () => {
  const settings = createSettings(`con${randomBytes(3).toString('hex')}`)
  const ending = new AbortController()
  const fleet = new Fleet(settings, ending.signal)
  const cleaner = new Cleaner(settings)
  const vm = settings.vm
  /** Typed and shown, and never to be found again. */
  const canary = `canary${randomBytes(12).toString('hex')}`
  const children: ChildProcess[] = []
  let address = ''

  before(async () => {
    await fleet.startScheduler()
    await enroll(fleet)
    await startAgent(fleet)
    const image = [
      '--image',
      `file://${guestPath}`,
      '--sha256',
      readFileSync(`${guestPath}.sha256`, 'utf8').trim()
    ]
    const sizes = ['--memory', '192MiB', '--disk', '128MiB']
    await fleet.hostlet([
      'vm',
      'create',
      vm,
      ...image,
      ...sizes,
      '--ready-http',
      '80/',
      '--ready-timeout',
      '4m'
    ])
    address = String(((await fleet.hostlet(['vm', 'show', vm])) as VmReply).vm.address)
  })
  after(async () => {
    for (const child of children) child.kill('SIGKILL')
    await fleet.takeDown()
    await cleaner.cleanUp()
    rmSync(settings.logDirectory, { recursive: true, force: true })
    ending.abort()
  })

  /** A process with what it has said; on a terminal of its own where it is to type. */
  function begin(words: readonly string[]): Typist {
    const child = spawn(words[0] ?? '', words.slice(1), {
      env: { PATH: process.env.PATH, HOME: settings.directory, TERM: 'xterm', ...fleet.environment() },
      stdio: ['pipe', 'pipe', 'pipe']
    })
    children.push(child)
    return new Typist(child)
  }

  const hostlet = `${settings.node} ${settings.main}`

  async function granted(body: Record<string, unknown> = {}): Promise<ConsoleReply> {
    const path = `/v1/vms/${vm}/console`
    const signal = AbortSignal.timeout(patienceMs)
    const reply = await fleet.client.ask({ method: 'POST', path, body, signal }, 'ConsoleReply')
    await fleet.hostlet(['op', 'wait', reply.operation.id])
    return reply
  }

  async function attached(body: Record<string, unknown> = {}): Promise<Operator> {
    const reply = await granted(body)
    const { url, apiKey, ca = '' } = fleet.client.connection
    const operator = await Operator.attach(reply, { url: url.origin, ca, key: apiKey })
    await operator.next('attached')
    return operator
  }

  it('is a terminal on the guest, given back as it was', async () => {
    const terminal = begin([
      'script',
      '-qec',
      `stty -g; ${hostlet} vm console ${vm}; echo status $?; stty -g`,
      '/dev/null'
    ])
    await terminal.says('Press Enter')
    terminal.types('\r')
    await terminal.says('/ #')
    terminal.types(`echo ${canary}-$((6*7))\r`)
    await terminal.says(`${canary}-42`)
    terminal.types('\x1d')
    await terminal.says('status 0')
    await terminal.ended()
    const modes = [...terminal.text.matchAll(/^[0-9a-f]+(?::[0-9a-f]+){10,}\r?$/gm)].map(([line]) => line)
    assert.equal(modes.length, 2, terminal.text)
    assert.equal(modes[0], modes[1])
  })

  it('has one writer, whom others may watch, and whose console another may take over', async () => {
    const writer = begin(['script', '-qec', `${hostlet} vm console ${vm}`, '/dev/null'])
    await writer.says('Press Enter')
    await assert.rejects(granted(), /E_CONFLICT.*taken by made at the first start/)
    const watcher = begin([settings.node, settings.main, 'vm', 'console', vm, '--read-only'])
    await watcher.says('Watching the console')
    writer.types('echo seen-by-$((1+1))\r')
    await writer.says('seen-by-2')
    await watcher.says('seen-by-2')
    const other = await attached({ takeOver: true })
    await writer.says('took the console over')
    assert.equal(await writer.ended(), 5, writer.text)
    other.type('echo still-$((2+2))\r')
    await watcher.says('still-4')
    other.socket.close(1000)
    watcher.child.kill('SIGTERM')
    await watcher.ended()
  })

  it('holds up neither heartbeats nor commands while a guest floods it, nor the guest where nobody reads', async () => {
    const operator = await attached()
    operator.type(`while :; do echo ${'y'.repeat(70)}; done\r`)
    let credited = 0
    const host = async () => (await fleet.hostlet(['host', 'show', await hostId()])) as HostDetail
    const seen = (await host()).host.lastSeenAt ?? 0
    while (operator.shown.length < floodBytes) {
      const bytes = Math.min(65_536, operator.shown.length - credited)
      credited += bytes
      if (bytes > 0) operator.say({ type: 'credit', bytes })
      await operator.untilShown(operator.shown.length + 1)
    }
    // A command is answered in the middle of it, and heartbeats come.
    await fleet.hostlet(['vm', 'refresh', vm])
    await fleet.until(async () => {
      const bytes = Math.min(65_536, operator.shown.length - credited)
      credited += bytes
      if (bytes > 0) operator.say({ type: 'credit', bytes })
      return ((await host()).host.lastSeenAt ?? 0) > seen
    }, 'a heartbeat in a flood')
    // From here on nobody takes anything.
    const { why } = await operator.next('closed')
    assert.equal(why, 'slow')
    assert.ok(operator.shown.length - credited <= 65_536, 'more was under way than there was credit for')
    const answer = await fetch(`http://${address}/`, { signal: AbortSignal.timeout(patienceMs) })
    assert.equal(answer.status, 200)
    const again = await attached()
    again.type('\x03')
    again.socket.close(1000)
  })

  it('ends without a key, when its VM goes off, and is refused while that is so', async () => {
    // Whoever left a moment ago may not be gone yet.
    const idle = await attached({ idleMs: 1_000, takeOver: true })
    assert.equal((await idle.next('closed')).why, 'idle')
    const watcher = begin([settings.node, settings.main, 'vm', 'console', vm, '--read-only'])
    await watcher.says('Watching the console')
    await fleet.hostlet(['vm', 'stop', vm, '--force'])
    await watcher.says(`VM ${vm} is off: the session ended`)
    assert.equal(await watcher.ended(), 0, watcher.text)
    await assert.rejects(granted(), /E_CONFLICT.*is off/)
  })

  it('is not given where the policy of the host forbids it', async () => {
    const before = existsSync(settings.policy) ? readFileSync(settings.policy, 'utf8') : ''
    const policy = { ...((parse(before) ?? {}) as object), commands: { forbid: ['vm.console'] } }
    writeFileSync(settings.policy, stringify(policy))
    try {
      await assert.rejects(granted(), /E_AUTH.*forbids vm\.console/)
    } finally {
      writeFileSync(settings.policy, before)
    }
  })

  it('is in both audits with who, when, why and how much', async () => {
    const { entries } = (await fleet.hostlet([
      'audit',
      'ls',
      '--scheduler',
      '--kind',
      'console'
    ])) as AuditList
    const calls = entries as unknown as Record<string, unknown>[]
    const sessions = new Set(calls.map(({ session }) => session))
    assert.ok(sessions.size >= 6, JSON.stringify(calls))
    for (const { key, note, from, object } of calls)
      assert.ok(key && note === 'made at the first start' && from && object === vm)
    const ends = calls.filter(({ kind }) => kind === 'console.closed').map(({ why }) => why)
    for (const why of ['left', 'taken', 'slow', 'idle', 'off'])
      assert.ok(ends.includes(why), `${why} of ${ends}`)
    const trail = await fleet.hostlet([
      'audit',
      'ls',
      '--state-directory',
      settings.agentState,
      '--kind',
      'console'
    ])
    const notes = (trail as AuditList).entries as unknown as Record<string, unknown>[]
    for (const session of sessions) {
      const opened = notes.find((note) => note.kind === 'console.opened' && note.session === session)
      const closed = notes.find((note) => note.kind === 'console.closed' && note.session === session)
      assert.match(String(opened?.by), /^made at the first start \(key /)
      assert.ok(closed && Number(closed.at) >= Number(opened?.at))
    }
  })

  it('leaves no trace of what was typed and shown', async () => {
    const places = [
      ...[settings.directory, settings.logDirectory, settings.runtimeDirectory, settings.poolDirectory],
      ...['/etc/libvirt', '/run/libvirt', '/var/lib/libvirt/qemu', '/var/log/libvirt']
    ]
    const there = places.filter((place) => existsSync(place))
    assert.ok(there.length >= 6)
    assert.deepEqual(await found(there), [])
    writeFileSync(`${settings.directory}/planted`, `x${canary}x`)
    assert.deepEqual(await found(there), [`${settings.directory}/planted`])
  })

  async function found(places: readonly string[]): Promise<string[]> {
    try {
      const words = ['-r', '-a', '-F', '-l', '-s', '-D', 'skip', '-e', canary, '--', ...places]
      return (await run('grep', words)).stdout.trim().split('\n')
    } catch (error) {
      const { code, stdout } = error as { code?: number; stdout?: string }
      // 1: nothing. 2: something could not be read, such as a file that went away meanwhile.
      assert.ok(code === 1 || code === 2, String(error))
      return (stdout ?? '').split('\n').filter((line) => line !== '')
    }
  }

  async function hostId(): Promise<string> {
    const { operation } = (await fleet.hostlet(['vm', 'refresh', vm])) as OperationReply
    return operation.host
  }
})

/** Somebody at a process: reads what it says, types. */
class Typist {
  readonly child: ChildProcess
  text = ''

  constructor(child: ChildProcess) {
    this.child = child
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (part: string) => {
        this.text += part
      })
  }

  types(text: string): void {
    this.child.stdin?.write(text)
  }

  async says(text: string): Promise<void> {
    const deadline = AbortSignal.timeout(patienceMs)
    const over = new AbortController()
    const signal = AbortSignal.any([deadline, over.signal])
    try {
      while (!this.text.includes(text)) {
        const more = [this.child.stdout, this.child.stderr].map((stream) =>
          once(stream ?? this.child, 'data', { signal })
        )
        await Promise.race([...more, once(this.child, 'close', { signal })])
        assert.ok(
          this.text.includes(text) || this.child.exitCode === null,
          `ended without "${text}":\n${this.text}`
        )
      }
    } catch (error) {
      throw deadline.aborted ? new Error(`waited in vain for "${text}":\n${this.text}`) : error
    } finally {
      over.abort()
    }
  }

  async ended(): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null)
      await once(this.child, 'close', { signal: AbortSignal.timeout(patienceMs) })
    return this.child.exitCode
  }
}
