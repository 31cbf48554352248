// What a service manager hears: on a real datagram socket where the machine has the tools, and with a clock of ours.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { type NotifyFields, SystemdNotify } from '../../src/lib/systemd-notify.ts'
import { FakeClock, settle } from '../support/fake-clock.ts'

const signal = new AbortController().signal

const tools = ['systemd-notify', 'python3'].filter((tool) => spawnSync(tool, ['--version']).status !== 0)
const missingTools = tools.length > 0 ? `not installed: ${tools.join(', ')}` : false

test('tells a manager on a real socket that it is ready, alive and stopping', {
  skip: missingTools
}, async (t) => {
  const manager = await startManager(t)
  const environment = { NOTIFY_SOCKET: manager.socket, WATCHDOG_USEC: '60000000' }
  const notify = new SystemdNotify({
    environment,
    onTrouble: (trouble, cause) => assert.fail(`${trouble} ${cause}`)
  })
  await notify.ready('Connected to sched-1; 2 VMs', signal)
  assert.deepEqual(await manager.next(), { READY: '1', STATUS: 'Connected to sched-1; 2 VMs' })
  using _ = notify.watchdog(() => true)
  assert.deepEqual(await manager.next(), { WATCHDOG: '1' })
  await notify.stopping('Stopping', signal)
  assert.deepEqual(await manager.next(), { STOPPING: '1', STATUS: 'Stopping' })
})

test('does nothing where no service manager asks', async () => {
  const { notify, sent } = create({ NOTIFY_SOCKET: undefined })
  await notify.ready('up', signal)
  using _ = notify.watchdog(() => assert.fail('nobody asked for a self-check'))
  await settle()
  assert.deepEqual(sent, [])
  assert.equal(notify.enabled, false)
})

test('pings at half of the watchdog time', async () => {
  const { notify, sent, clock } = create({ WATCHDOG_USEC: '20000000' })
  assert.equal(notify.watchdogIntervalMs, 10_000)
  using _ = notify.watchdog(() => true)
  await settle()
  assert.equal(sent.length, 1)
  await clock.advance(9_999)
  assert.equal(sent.length, 1)
  await clock.advance(1)
  assert.deepEqual(sent, [{ WATCHDOG: '1' }, { WATCHDOG: '1' }])
})

test('pings nobody when the watchdog is off, or meant for another process', () => {
  for (const environment of [
    {},
    { WATCHDOG_USEC: 'soon' },
    { WATCHDOG_USEC: '0' },
    { WATCHDOG_USEC: '20000000', WATCHDOG_PID: String(process.pid + 1) }
  ]) {
    assert.equal(create(environment).notify.watchdogIntervalMs, undefined)
  }
})

test('withholds the ping while the self-check fails or throws, and says so once each time', async () => {
  const { notify, sent, troubles, clock } = create({ WATCHDOG_USEC: '2000' })
  const answers: (() => boolean)[] = [
    () => true,
    () => false,
    () => false,
    () => {
      throw new Error('journal is gone')
    },
    () => true
  ]
  using _ = notify.watchdog(() => answers.shift()?.() ?? true)
  await settle()
  for (const sentByThen of [1, 1, 1, 2]) {
    await clock.advance(1)
    assert.equal(sent.length, sentByThen)
  }
  assert.deepEqual(troubles, ['self-check-failed', 'self-check-passed'])
})

test('a self-check that hangs stops the pings', async () => {
  const { notify, sent, clock } = create({ WATCHDOG_USEC: '2000' })
  using _ = notify.watchdog(() => new Promise(() => undefined))
  await clock.advance(1_000)
  assert.deepEqual(sent, [])
})

test('stops pinging when disposed', async () => {
  const { notify, sent, clock } = create({ WATCHDOG_USEC: '2000' })
  const watchdog = notify.watchdog(() => true)
  await settle()
  watchdog[Symbol.dispose]()
  await clock.advance(1_000)
  assert.equal(sent.length, 1)
})

test('sends a status on one line, bounded, and not twice', async () => {
  const { notify, sent } = create({})
  await notify.status('12 VMs\nWATCHDOG=1', signal)
  await notify.status('12 VMs\nWATCHDOG=1', signal)
  await notify.status('x'.repeat(5_000), signal)
  assert.deepEqual(sent, [{ STATUS: '12 VMs WATCHDOG=1' }, { STATUS: 'x'.repeat(200) }])
})

test('keeps the order of messages, and survives one that cannot be sent', async () => {
  const sent: NotifyFields[] = []
  const troubles: string[] = []
  const send = async (fields: NotifyFields) => {
    if (fields.READY) {
      await settle()
      throw new Error('no such socket')
    }
    sent.push(fields)
  }
  const options = {
    environment: { NOTIFY_SOCKET: '/run/s' },
    send,
    onTrouble: (trouble: string) => troubles.push(trouble)
  }
  const notify = new SystemdNotify(options)
  await Promise.all([
    notify.ready('up', signal),
    notify.status('1 VM', signal),
    notify.stopping('bye', signal)
  ])
  assert.deepEqual(sent, [{ STATUS: '1 VM' }, { STOPPING: '1', STATUS: 'bye' }])
  assert.deepEqual(troubles, ['not-sent'])
})

function create(environment: Record<string, string | undefined>) {
  const sent: NotifyFields[] = []
  const troubles: string[] = []
  const clock = new FakeClock()
  const notify = new SystemdNotify({
    environment: { NOTIFY_SOCKET: '/run/s', ...environment },
    clock,
    send: async (fields) => void sent.push(fields),
    onTrouble: (trouble) => troubles.push(trouble)
  })
  return { notify, sent, troubles, clock }
}

// Node has no Unix datagram sockets. Plain recv drops the descriptor that the program passes along and waits for, which
// is the answer that a service manager gives.
const receiver = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1]); s.settimeout(30); print('bound', flush=True)
while True:
    message = s.recv(4096).decode()
    if not message.startswith('BARRIER='): print(message.replace('\\n', '\\t'), flush=True)
`

async function startManager(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-notify-'))
  const socket = join(directory, 'notify')
  const child: ChildProcess = spawn('python3', ['-c', receiver, socket], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  t.after(async () => {
    child.kill()
    await once(child, 'exit')
    rmSync(directory, { recursive: true, force: true })
  })
  assert.ok(child.stdout)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const line = async (): Promise<string> => (await lines.next()).value ?? ''
  assert.equal(await line(), 'bound')
  return {
    socket,
    next: async () => Object.fromEntries((await line()).split('\t').map((field) => field.split('=')))
  }
}
