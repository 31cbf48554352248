/** The connection at work on a real libvirtd: calls, events, streams, a frozen QEMU, a frozen and a killed daemon. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import {
  CALLS_IN_FLIGHT_MAX,
  type Connection,
  ConnectionError,
  connect,
  connectGetHostname,
  domainCreateXml,
  domainDestroy,
  domainEvents,
  domainGetState,
  domainLookupByName,
  domainMemoryStats,
  domainOpenConsole,
  domainState,
  type Infer,
  type LibvirtError,
  nothing,
  procedure,
  type StoragePool,
  type StorageVolume,
  storagePoolCreateXml,
  storagePoolDestroy,
  storagePoolListAllVolumes,
  storagePoolListVolumes,
  storagePoolRefresh,
  storageVolCreateXml,
  storageVolDelete,
  storageVolDownload,
  storageVolGetInfo,
  storageVolUpload
} from '../../src/node-libvirt/index.ts'
import { EchoGuest } from './libvirt-connection/echo-guest.ts'
import { PrivateLibvirtd } from './libvirt-connection/private-libvirtd.ts'

const MEBIBYTE = 1_048_576
const SPARSE = 1
const WAIT_MS = 10_000
const POLL_MS = 20
const name = `hl-t-${randomBytes(4).toString('hex')}`
/** Where QEMU's user may look. */
const directory = join('/var/lib/libvirt/images', name)

const skip = await cannotRun()

async function cannotRun(): Promise<string | false> {
  if (process.getuid?.() !== 0) return 'needs root: QEMU must be able to read what the tests write'
  try {
    await using _connection = await connect('qemu:///system')
    return false
  } catch (error) {
    if (error instanceof ConnectionError && error.code === 'E_UNAVAILABLE') return error.message
    throw error
  }
}

/** For what the other side does in its own time. */
async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const signal = AbortSignal.timeout(WAIT_MS)
  while (!(await condition())) await delay(POLL_MS, undefined, { signal })
}

function testDomain(suffix: string): string {
  return `<domain type='test'><name>${name}-${suffix}</name><memory>8192</memory>
    <os><type>hvm</type></os></domain>`
}

describe('the test driver', { skip }, () => {
  let connection: Connection
  before(async () => {
    connection = await connect('test:///default')
  })
  after(() => connection.close())

  it('opens and says what it is', () => {
    assert.equal(connection.facts.hypervisor, 'TEST')
    assert.match(connection.facts.libvirtVersion, /^\d+\.\d+\.\d+$/)
    assert.ok(connection.facts.features.has('domainEventCallback'))
  })

  it('answers an unknown domain with libvirt’s code, domain and level', async () => {
    await assert.rejects(
      connection.call(domainLookupByName, { name: `${name}-none` }),
      (error: LibvirtError) => {
        assert.deepEqual(
          { code: error.code, domain: error.domain, level: error.level },
          { code: 42, domain: 12, level: 2 }
        )
        return true
      }
    )
  })

  it('does not know a procedure that libvirt does not have, and goes on', async () => {
    const unknown = procedure(9999, nothing, nothing)
    await assert.rejects(connection.call(unknown, {}), { code: 'E_UNSUPPORTED' })
    assert.ok((await connection.call(connectGetHostname, {})).hostname.length > 0)
  })

  it('refuses arguments that it cannot decode with its own error, and goes on', async () => {
    const wrong = procedure(domainLookupByName.number, nothing, nothing)
    await assert.rejects(connection.call(wrong, {}), { name: 'LibvirtError', code: 39, domain: 7 })
    assert.ok((await connection.call(connectGetHostname, {})).hostname.length > 0)
  })

  it('answers hundreds of calls at once', async () => {
    const calls = Array.from({ length: 500 }, () => connection.call(connectGetHostname, {}))
    assert.equal(new Set((await Promise.all(calls)).map(({ hostname }) => hostname)).size, 1)
    assert.deepEqual(connection.load, { inFlight: 0, abandoned: 0, queued: 0 })
  })

  it('is private to a connection where it comes from a file', async () => {
    const hosts = await mkdtemp(join(tmpdir(), 'hl-t-hosts-'))
    const path = join(hosts, 'host.xml')
    await writeFile(path, '<node/>')
    try {
      await using one = await connect(`test://${path}`)
      await using two = await connect(`test://${path}`)
      await one.call(domainCreateXml, { xml: testDomain('private'), flags: 0 })
      const { domain } = await one.call(domainLookupByName, { name: `${name}-private` })
      assert.equal(domain.name, `${name}-private`)
      await assert.rejects(two.call(domainLookupByName, { name: `${name}-private` }), { code: 42 })
    } finally {
      await rm(hosts, { recursive: true })
    }
  })

  it('refuses a change on a read-only connection', async () => {
    await using reader = await connect('test:///default', { readOnly: true })
    const create = reader.call(domainCreateXml, { xml: testDomain('ro'), flags: 0 })
    await assert.rejects(create, { name: 'LibvirtError', code: 29 })
  })

  it('sends events from the moment of registration until it is disposed', async () => {
    const seen: Infer<typeof domainEvents.lifecycle.message.payload>[] = []
    const own = () => seen.filter(({ domain }) => domain.name === `${name}-events`).map(({ event }) => event)
    const subscription = await connection.on(domainEvents.lifecycle, (payload) => seen.push(payload))
    const xml = testDomain('events')
    const { domain } = await connection.call(domainCreateXml, { xml, flags: 0 })
    await connection.call(domainDestroy, { domain })
    await until(() => own().length === 2)
    assert.deepEqual(own(), [2, 5])
    await subscription[Symbol.asyncDispose]()
    const again = await connection.call(domainCreateXml, { xml, flags: 0 })
    await connection.call(domainDestroy, { domain: again.domain })
    await connection.call(connectGetHostname, {})
    assert.equal(own().length, 2)
  })

  it('sends an event to all who subscribed to it', async () => {
    const started: string[] = []
    const on = (listener: string) =>
      connection.on(domainEvents.lifecycle, ({ domain, event }) => {
        if (domain.name === `${name}-shared` && event === 2) started.push(listener)
      })
    await using _first = await on('first')
    await using _second = await on('second')
    const xml = testDomain('shared')
    const { domain } = await connection.call(domainCreateXml, { xml, flags: 0 })
    await connection.call(domainDestroy, { domain })
    await until(() => started.length === 2)
    assert.deepEqual(started, ['first', 'second'])
  })

  it('loses no event that comes before the reply to its registration', async () => {
    await using other = await connect('test:///default')
    // When the last subscription to a driver ends while events flow, libvirt 9.0 may never send to the next one.
    await other.on(domainEvents.reboot, () => {})
    let running = true
    const churn = (async () => {
      while (running) {
        const { domain } = await other.call(domainCreateXml, { xml: testDomain('churn'), flags: 0 })
        await other.call(domainDestroy, { domain })
      }
    })()
    let lost = 0
    try {
      for (let round = 0; round < 40; round++) {
        const events: number[] = []
        const subscription = await connection.on(domainEvents.lifecycle, ({ domain, event }) => {
          if (domain.name === `${name}-churn`) events.push(event)
        })
        await until(() => events.length >= 4)
        await subscription[Symbol.asyncDispose]()
        // Started and stopped take turns: two alike in a row would mean that one between them was lost.
        lost += events.filter((event, index) => index > 0 && event === events[index - 1]).length
      }
    } finally {
      running = false
      await churn
    }
    assert.equal(lost, 0)
  })
})

describe('streams of volumes', { skip }, () => {
  let connection: Connection
  let pool: StoragePool
  before(async () => {
    await mkdir(directory, { recursive: true })
    connection = await connect('qemu:///system')
    const xml = `<pool type='dir'><name>${name}</name><target><path>${directory}</path></target></pool>`
    pool = (await connection.call(storagePoolCreateXml, { xml, flags: 0 })).pool
  })
  after(async () => {
    await connection.call(storagePoolDestroy, { pool })
    await connection.close()
    await rm(directory, { recursive: true, force: true })
  })

  async function createVolume(suffix: string, bytes: number): Promise<StorageVolume> {
    const xml = `<volume><name>${suffix}.img</name><capacity>${bytes}</capacity><allocation>0</allocation>
      <target><format type='raw'/></target></volume>`
    return (await connection.call(storageVolCreateXml, { pool, xml, flags: 0 })).volume
  }

  /** Files of ours that libvirtd has open. */
  async function filesOpen(): Promise<string[]> {
    const pids = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))
    const names = await Promise.all(pids.map(async (pid) => [pid, await commandOf(pid)] as const))
    const daemons = names.filter(([, command]) => command.includes('libvirtd')).map(([pid]) => pid)
    const paths = await Promise.all(daemons.map(pathsOpenIn))
    return paths.flat().filter((path) => path.startsWith(directory))
  }

  it('are listed although one file’s name is not UTF-8', async () => {
    const path = Buffer.concat([Buffer.from(`${directory}/bad-`), Buffer.from([0xff]), Buffer.from('.img')])
    await writeFile(path, 'content')
    try {
      await connection.call(storagePoolRefresh, { pool, flags: 0 })
      const args = { pool, needResults: true, flags: 0 }
      const { volumes } = await connection.call(storagePoolListAllVolumes, args)
      assert.deepEqual(
        volumes.map((volume) => volume.name),
        ['bad-\ufffd.img']
      )
    } finally {
      await rm(path)
      await connection.call(storagePoolRefresh, { pool, flags: 0 })
    }
  })

  it('carry an upload and a download of the same bytes', async () => {
    const data = randomBytes(20 * MEBIBYTE + 1234)
    const volume = await createVolume('round-trip', data.length)
    const range = { volume, offsetBytes: 0, lengthBytes: data.length, flags: 0 }
    const pieces = [data.subarray(0, 1), data.subarray(1, 5 * MEBIBYTE), data.subarray(5 * MEBIBYTE)]
    await connection.upload(storageVolUpload, range, pieces)
    const back = await buffer(await connection.download(storageVolDownload, range))
    assert.ok(back.equals(data))
    assert.deepEqual(await filesOpen(), [])
  })

  it('wait for a slow reader while calls of other connections go on', async () => {
    const volume = await createVolume('slow', 8 * MEBIBYTE)
    await using other = await connect('qemu:///system', { keepAlive: false })
    const stream = await other.download(storageVolDownload, {
      volume,
      offsetBytes: 0,
      lengthBytes: 0,
      flags: 0
    })
    await once(stream, 'readable')
    const { hostname } = await connection.call(connectGetHostname, {})
    assert.ok(hostname.length > 0)
    assert.ok(stream.readableLength < 2 * MEBIBYTE)
    assert.equal((await buffer(stream)).length, 8 * MEBIBYTE)
  })

  it('that are left early leave nothing open, and the connection goes on', async () => {
    const volume = await createVolume('left', 8 * MEBIBYTE)
    const range = { volume, offsetBytes: 0, lengthBytes: 0, flags: 0 }
    for (let round = 0; round < 5; round++) {
      for await (const chunk of await connection.download(storageVolDownload, range)) {
        assert.ok(chunk.length > 0)
        break
      }
    }
    await until(async () => (await filesOpen()).length === 0)
    await connection.call(storageVolDelete, { volume, flags: 0 })
    const { names } = await connection.call(storagePoolListVolumes, { pool, namesMax: 100 })
    assert.ok(!names.includes('left.img'))
  })

  it('give a failed upload’s volume free at once', async () => {
    const volume = await createVolume('broken', MEBIBYTE)
    const source = async function* () {
      yield randomBytes(1000)
      throw new Error('the source broke')
    }
    const range = { volume, offsetBytes: 0, lengthBytes: MEBIBYTE, flags: 0 }
    await assert.rejects(connection.upload(storageVolUpload, range, source()), /the source broke/)
    await connection.call(storageVolDelete, { volume, flags: 0 })
    assert.deepEqual(await filesOpen(), [])
  })

  it('report more data than was announced', async () => {
    const volume = await createVolume('long', MEBIBYTE)
    const range = { volume, offsetBytes: 0, lengthBytes: 1000, flags: 0 }
    const upload = connection.upload(storageVolUpload, range, [randomBytes(5000)])
    await assert.rejects(upload, { name: 'LibvirtError' })
  })

  it('keep holes as holes', async () => {
    const volume = await createVolume('sparse', 16 * MEBIBYTE)
    const range = { volume, offsetBytes: 0, lengthBytes: 16 * MEBIBYTE, flags: SPARSE }
    const head = Buffer.alloc(4096, 1)
    const chunks = [{ holeBytes: MEBIBYTE }, head, { holeBytes: 15 * MEBIBYTE - 4096 }]
    await connection.upload(storageVolUpload, range, chunks, { sparse: true })
    const { capacityBytes, allocationBytes } = await connection.call(storageVolGetInfo, { volume })
    assert.equal(capacityBytes, BigInt(16 * MEBIBYTE))
    assert.ok(allocationBytes < MEBIBYTE)
    const got: unknown[] = []
    for await (const chunk of await connection.download(storageVolDownload, range, { sparse: true }))
      got.push(chunk)
    assert.deepEqual(got, chunks)
  })
})

describe('a guest on QEMU', { skip }, () => {
  const guestDirectory = `${directory}-guest`
  before(async () => {
    await mkdir(guestDirectory, { recursive: true })
    await chmod(guestDirectory, 0o755)
  })
  after(() => rm(guestDirectory, { recursive: true, force: true }))

  it('talks through its console, which ends with it', async () => {
    await using connection = await connect('qemu:///system')
    await using stack = new AsyncDisposableStack()
    const guest = stack.use(
      await EchoGuest.start(connection, { name: `${name}-console`, directory: guestDirectory })
    )
    await using other = await connect('qemu:///system')
    const stream = await other.duplex(domainOpenConsole, { domain: guest.domain, device: null, flags: 0 })
    let heard = ''
    stream.on('data', (chunk: Buffer) => {
      heard += chunk.toString('latin1')
    })
    // Until the firmware has loaded the guest, what is typed is lost.
    await until(() => {
      stream.write('hello')
      return heard.includes('hellohello')
    })
    const closed = once(stream, 'close')
    await stack.disposeAsync()
    await closed
    assert.equal((await other.call(connectGetHostname, {})).hostname.length > 0, true)
  })

  it('is listed by the example of the README', async () => {
    await using connection = await connect('qemu:///system')
    await using guest = await EchoGuest.start(connection, {
      name: `${name}-readme`,
      directory: guestDirectory
    })
    const root = join(import.meta.dirname, '..', '..')
    const readme = await readFile(join(root, 'src', 'node-libvirt', 'README.md'), 'utf8')
    const example = /```ts\n([\s\S]*?)```/.exec(readme)?.[1] ?? ''
    const run = promisify(execFile)
    const { stdout } = await run(process.execPath, ['--input-type=module-typescript', '--eval', example], {
      cwd: root
    })
    assert.ok(stdout.split('\n').includes(`${guest.domain.name} 1`), stdout)
  })

  it('that is frozen can be looked at on the connection whose calls wait for it', async () => {
    await using connection = await connect('qemu:///system')
    await using guest = await EchoGuest.start(connection, {
      name: `${name}-stuck`,
      directory: guestDirectory
    })
    await using slow = await connect('qemu:///system')
    const { domain } = guest
    const statistics = () => slow.call(domainMemoryStats, { domain, statisticsMax: 20, flags: 0 })
    const thaw = await guest.freeze()
    const waiting = Promise.all(Array.from({ length: CALLS_IN_FLIGHT_MAX }, statistics))
    try {
      assert.deepEqual(slow.load, { inFlight: 3, abandoned: 0, queued: 1 })
      const look = await slow.call(domainGetState, { domain, flags: 0 }, { deadlineMs: WAIT_MS })
      assert.equal(look.state, domainState.running)
      assert.deepEqual(slow.load, { inFlight: 3, abandoned: 0, queued: 1 })
    } finally {
      thaw()
    }
    for (const { statistics } of await waiting) assert.ok(statistics.length > 0)
  })

  it('that is frozen holds up its own calls only, until their deadline', async () => {
    await using connection = await connect('qemu:///system')
    await using guest = await EchoGuest.start(connection, {
      name: `${name}-frozen`,
      directory: guestDirectory
    })
    await using slow = await connect('qemu:///system')
    const statistics = (deadlineMs: number) =>
      slow.call(domainMemoryStats, { domain: guest.domain, statisticsMax: 20, flags: 0 }, { deadlineMs })
    await statistics(WAIT_MS)
    const thaw = await guest.freeze()
    try {
      const outcome = { code: 'E_TIMEOUT', sent: true }
      await assert.rejects(statistics(300), outcome)
      assert.deepEqual(slow.load, { inFlight: 1, abandoned: 1, queued: 0 })
      assert.ok((await slow.call(connectGetHostname, {})).hostname.length > 0)
      assert.ok((await connection.call(connectGetHostname, {})).hostname.length > 0)
    } finally {
      thaw()
    }
    await until(() => slow.load.inFlight === 0)
    assert.ok((await statistics(WAIT_MS)).statistics.length > 0)
  })
})

describe('a libvirtd of our own', { skip }, () => {
  it('that freezes is given up by keepalive, and its calls by their deadlines', async () => {
    await using daemon = await PrivateLibvirtd.start()
    await using connection = await daemon.connect({ keepAlive: { intervalMs: 200, unansweredMax: 2 } })
    daemon.freeze()
    const call = connection.call(connectGetHostname, {}, { deadlineMs: 100 })
    await assert.rejects(call, { code: 'E_TIMEOUT', sent: true })
    const interrupted = connection.call(connectGetHostname, {})
    await assert.rejects(interrupted, { code: 'E_INTERRUPTED', sent: true })
    assert.equal((await connection.closed)?.code, 'E_INTERRUPTED')
    daemon.thaw()
    await using again = await daemon.connect()
    assert.equal(again.facts.hypervisor, 'TEST')
  })

  it('pings us and gets its answers: it would hang up within three seconds', async () => {
    await using daemon = await PrivateLibvirtd.start('keepalive_interval = 1\nkeepalive_count = 1\n')
    await using connection = await daemon.connect({ keepAlive: { intervalMs: 60_000, unansweredMax: 1 } })
    const first = await Promise.race([connection.closed, delay(4_000, 'open')])
    assert.equal(first, 'open')
    assert.ok((await connection.call(connectGetHostname, {})).hostname.length > 0)
  })

  it('that is killed interrupts what is under way and can be reached again once it is back', async () => {
    await using daemon = await PrivateLibvirtd.start()
    await using connection = await daemon.connect()
    daemon.freeze()
    const calls = Promise.allSettled([1, 2, 3, 4, 5].map(() => connection.call(connectGetHostname, {})))
    await daemon.kill()
    const codes = (await calls).map((end) => (end.status === 'rejected' ? end.reason.code : null))
    assert.deepEqual(codes, [...new Array(4).fill('E_INTERRUPTED'), 'E_UNAVAILABLE'])
    await assert.rejects(connect(daemon.uri), { code: 'E_UNAVAILABLE' })
    daemon.restart()
    await using again = await daemon.connect()
    assert.ok((await again.call(connectGetHostname, {})).hostname.length > 0)
  })
})

async function commandOf(pid: string): Promise<string> {
  return readlink(`/proc/${pid}/exe`).catch(() => '') // It may have ended meanwhile.
}

async function pathsOpenIn(pid: string): Promise<string[]> {
  const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => [])
  return Promise.all(
    descriptors.map((descriptor) => readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => ''))
  )
}
