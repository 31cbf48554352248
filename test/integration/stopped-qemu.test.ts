// A QEMU that stands still, or is killed, on a libvirtd of its own: other VMs' commands go on, and its own end clearly.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, afterEach, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { networkDefaults } from '../../src/agent/firewall/create.ts'
import { MemoryNft } from '../../src/agent/firewall/memory-nft.ts'
import { BootRecord } from '../../src/agent/host/boot-record.ts'
import { createHost, type Host } from '../../src/agent/host/host.ts'
import { LibvirtHypervisor } from '../../src/agent/host/libvirt-hypervisor.ts'
import { profileOf } from '../../src/agent/profiles.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { carry, succeed } from '../agent/verbs/bench.ts'
import { definitionOf, makeDisks, storeBase, wait } from '../contract/hypervisor.contract.ts'
import { connected } from '../contract/libvirt-fixture.ts'
import { PrivateLibvirtd } from './libvirt-connection/private-libvirtd.ts'

const emulator = '/usr/bin/qemu-system-x86_64'
/** Takes the real one in, so that it finds its firmware and modules beside it. */
const stand = '/usr/bin/qemu-system-i386'
const needed = ['/usr/sbin/libvirtd', emulator, stand]
const skip =
  needed.every((path) => existsSync(path)) && process.getuid?.() === 0 ? false : 'takes libvirtd and root'
const run = promisify(execFile)
const prefix = 'hl-t-standing'
const network = { name: prefix, bridge: 'hltstanding', subnet: '10.252.9.0/24' }
const uid = 1_949_100_000
const untilMs = 60_000

describe('a QEMU that stands still', { skip, timeout: 240_000 }, () => {
  let bench: Bench
  before(async () => {
    bench = await Bench.open(['ill', 'late', 'well'])
  })
  afterEach(() => bench.rest())
  after(() => bench?.[Symbol.asyncDispose]())

  it('while it runs holds up no other VM, and is ended by a stop: by force, and after the grace', async () => {
    for (const vm of ['ill', 'late', 'well']) await bench.succeed('vm.start', vm)
    await bench.signal('ill', 'SIGSTOP')
    await bench.signal('late', 'SIGSTOP')
    await bench.goesOnFor('well')
    const stops = await Promise.all([
      bench.succeed('vm.stop', 'ill', { force: true }),
      bench.succeed('vm.stop', 'late', { graceMs: 1_000 })
    ])
    assert.deepEqual(
      stops.map(({ forced }) => forced),
      [true, true]
    )
    for (const vm of ['ill', 'late']) assert.deepEqual(await bench.stateOf(vm), ['stopped', 'stopped'])
    await bench.succeed('vm.start', 'ill')
    assert.deepEqual(await bench.stateOf('ill'), ['running', 'running'])
  })

  it('is a VM as before once it goes on', async () => {
    for (const vm of ['ill', 'well']) await bench.succeed('vm.start', vm)
    await bench.signal('ill', 'SIGSTOP')
    await bench.goesOnFor('well')
    await bench.signal('ill', 'SIGCONT')
    await bench.goesOnFor('ill')
    assert.deepEqual(await bench.stateOf('ill'), ['running', 'running'])
  })

  it('while it starts holds up no other VM, and has started once it goes on', async () => {
    await bench.succeed('vm.start', 'well')
    await bench.haveStand('ill')
    const starting = bench.succeed('vm.start', 'ill')
    await bench.stands('ill')
    await bench.goesOnFor('well')
    await bench.signal('ill', 'SIGCONT')
    await starting
    assert.deepEqual(await bench.stateOf('ill'), ['running', 'running'])
  })

  it('while it starts is ended by a stop by force, and the start fails', async () => {
    await bench.succeed('vm.start', 'well')
    await bench.haveStand('ill')
    const starting = bench.carry('vm.start', 'ill')
    await bench.stands('ill')
    await bench.succeed('vm.stop', 'ill', { force: true })
    const start = await starting
    assert.equal(start.outcome === 'failed' && start.error.code, 'E_LIBVIRT', JSON.stringify(start))
    assert.deepEqual(await bench.stateOf('ill'), ['stopped', 'stopped'])
    await bench.goesOnFor('well')
  })
})

describe('a QEMU that is killed', { skip, timeout: 240_000 }, () => {
  let bench: Bench
  before(async () => {
    bench = await Bench.open(['ill'])
  })
  afterEach(() => bench.rest())
  after(() => bench?.[Symbol.asyncDispose]())

  it('while its guest is asked to power off is off: the stop is done, without force', async () => {
    await bench.succeed('vm.start', 'ill')
    const stopping = bench.succeed('vm.stop', 'ill', { graceMs: 60_000 })
    await bench.until(async () => (await bench.stateOf('ill'))[1] === 'stopped')
    await bench.signal('ill', 'SIGKILL')
    assert.equal((await stopping).forced, false)
    assert.deepEqual(await bench.stateOf('ill'), ['crashed', 'stopped'])
  })
})

function nameOf(vm: string): string {
  return `${prefix}-${vm}`
}

/** A libvirtd of its own, whose QEMU may be made to stand before its first step, and a host with VMs on it. */
class Bench implements AsyncDisposable {
  readonly hypervisor: LibvirtHypervisor
  readonly #host: Host
  readonly #daemon: PrivateLibvirtd
  readonly #directory: string
  readonly #uuids = new Map<string, string>()
  readonly #pids = new Set<number>()
  readonly #parts = new AsyncDisposableStack()

  private constructor(daemon: PrivateLibvirtd, directory: string) {
    this.#daemon = daemon
    this.#directory = directory
    this.hypervisor = openHypervisor(daemon, directory)
    this.#host = openHost(this.hypervisor, directory)
  }

  static async open(vms: readonly string[]): Promise<Bench> {
    const directory = await mkdtemp(`/var/tmp/${prefix}-`)
    await chmod(directory, 0o711)
    await mkdir(join(directory, 'run', 'console'), { recursive: true })
    await writeStanding(directory, '')
    await writeFile(join(directory, 'emulator'), emulatorScript(directory), { mode: 0o755 })
    const mounts = `mount --bind ${emulator} ${stand}\nmount --bind ${directory}/emulator ${emulator}`
    const qemuConfig = 'security_driver = "none"'
    const daemon = await PrivateLibvirtd.startSystem({ mounts, qemuConfig })
    const bench = new Bench(daemon, directory)
    bench.#parts.defer(() => bench.#clear())
    try {
      await connected(bench.hypervisor)
      await bench.hypervisor.ensureNetwork(network, wait())
      await storeBase(bench.hypervisor)
      for (const vm of vms) await bench.#define(vm)
    } catch (error) {
      await bench[Symbol.asyncDispose]()
      throw error
    }
    return bench
  }

  carry(verb: string, vm: string, args: Record<string, unknown> = {}) {
    return carry(this.#host, verb, { vm: nameOf(vm), ...args }, { subject: this.#subject(vm) })
  }

  succeed(verb: string, vm: string, args: Record<string, unknown> = {}) {
    return succeed(this.#host, verb, { vm: nameOf(vm), ...args }, { subject: this.#subject(vm) })
  }

  /** What it is, and what it is wanted to be. */
  async stateOf(vm: string): Promise<unknown[]> {
    const record = await this.hypervisor.findVm(nameOf(vm), wait())
    return [record?.state, record?.wanted]
  }

  /** Its counters move, it is listed, and it is stopped and started. */
  async goesOnFor(vm: string): Promise<void> {
    const used = async () => {
      const all = await this.hypervisor.counters(wait())
      return all.find(({ name }) => name === nameOf(vm))?.cpuNanoseconds ?? 0
    }
    let before = 0
    // The first to ask a QEMU that stands waits for it, once; those after it are answered.
    await this.until(async () => {
      before = await used().catch(() => 0)
      return before > 0
    })
    await this.until(async () => (await used()) > before)
    const listed = await this.#host.vms.list(wait())
    assert.equal(listed.length, this.#uuids.size)
    await this.succeed('vm.stop', vm, { force: true })
    await this.succeed('vm.start', vm)
    assert.deepEqual(await this.stateOf(vm), ['running', 'running'])
  }

  /** To its QEMU, and waits until it stands where it is to. */
  async signal(vm: string, signal: 'SIGSTOP' | 'SIGCONT' | 'SIGKILL'): Promise<void> {
    const pid = Number(await readFile(this.#pidPath(vm), 'utf8'))
    this.#pids.add(pid)
    process.kill(pid, signal)
    if (signal === 'SIGSTOP') await this.stands(vm)
  }

  /** From its next start on. */
  async haveStand(vm: string): Promise<void> {
    await writeStanding(this.#directory, `${nameOf(vm)}\n`)
  }

  async stands(vm: string): Promise<void> {
    await this.until(async () => {
      const pid = Number(await readFile(this.#pidPath(vm), 'utf8').catch(() => '0'))
      if (pid === 0) return false
      this.#pids.add(pid)
      return /^State:\sT/m.test(await readFile(`/proc/${pid}/status`, 'utf8').catch(() => ''))
    })
  }

  /** As at the beginning: none runs, none is wanted to stand. */
  async rest(): Promise<void> {
    await writeStanding(this.#directory, '')
    await this.#killKnown()
    for (const vm of this.#uuids.keys()) await this.hypervisor.cutPower(nameOf(vm), wait())
  }

  async until(condition: () => Promise<boolean>): Promise<void> {
    const signal = AbortSignal.timeout(untilMs)
    while (!(await condition())) await delay(20, undefined, { signal })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync()
  }

  #pidPath(vm: string): string {
    return join(this.#daemon.directory, 'run', 'qemu', `${nameOf(vm)}.pid`)
  }

  #subject(vm: string) {
    return { vm: nameOf(vm), uuid: this.#uuids.get(vm) ?? '', generation: ++generations }
  }

  async #define(vm: string): Promise<void> {
    const whole = definitionOf({ prefix, network, uid }, vm)
    // This libvirtd has no control groups, which a limit of the processor takes.
    const { cpuLimitPercent: _unlimited, ...specification } = whole.specification
    await makeDisks(this.hypervisor, { ...whole, specification })
    await this.hypervisor.define({ ...whole, specification }, wait())
    this.#uuids.set(vm, specification.uuid)
  }

  /** One that stands would have libvirt wait for ten seconds. */
  async #killKnown(): Promise<void> {
    for (const pid of this.#pids) if (await isOurs(pid)) process.kill(pid, 'SIGKILL')
    this.#pids.clear()
  }

  async #clear(): Promise<void> {
    await this.#killKnown()
    for (const vm of this.#uuids.keys())
      await this.hypervisor.cutPower(nameOf(vm), wait()).catch(() => undefined)
    await this.#host.close()
    await this.hypervisor.close()
    const uri = `qemu+unix:///system?socket=${this.#daemon.socket}`
    // Ends its dnsmasq, which would outlive the daemon.
    await run('virsh', ['-q', '-c', uri, 'net-destroy', network.name]).catch(() => undefined)
    await this.#daemon[Symbol.asyncDispose]()
    await rm(this.#directory, { recursive: true, force: true })
  }
}

let generations = 1

/** The number may be another process's by now. */
async function isOurs(pid: number): Promise<boolean> {
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  return command.includes(`guest=${prefix}-`)
}

/** QEMU as libvirt starts it, standing before its first step where its VM is named. */
function emulatorScript(directory: string): string {
  return `#!/bin/sh
while read -r name; do
  case "$*" in *"guest=$name,"*) kill -STOP $$ ;; esac
done <${directory}/standing
exec ${stand} "$@"
`
}

async function writeStanding(directory: string, names: string): Promise<void> {
  await writeFile(join(directory, 'standing'), names, { mode: 0o644 })
}

function openHypervisor(daemon: PrivateLibvirtd, directory: string): LibvirtHypervisor {
  return new LibvirtHypervisor({
    uri: 'qemu:///system',
    socket: daemon.socket,
    accelerator: 'tcg',
    pool: { name: prefix, path: join(directory, 'pool') },
    trialUid: uid,
    runtimeDirectory: join(directory, 'run'),
    scratch: { reserveBytes: 64 * 1024 ** 2 },
    clock: systemClock,
    log: silentLogger
  })
}

function openHost(hypervisor: LibvirtHypervisor, directory: string): Host {
  const { name, bridge, subnet } = network
  const runtimeDirectory = join(directory, 'run')
  return createHost({
    hostId: 'host-1',
    agentVersion: '0.1.0',
    clock: systemClock,
    log: silentLogger,
    hypervisor,
    bootRecord: new BootRecord({ directory: runtimeDirectory }),
    nft: new MemoryNft(),
    config: {
      stateDirectory: join(directory, 'state'),
      runtimeDirectory,
      profiles: { starter: profileOf({ network: name, bridge, subnet, encryption: false }) },
      network: { ...networkDefaults, table: name },
      vmUids: { first: uid, count: 64 },
      images: { allowFileUrls: [directory], cacheBytesMax: 1024 ** 3 },
      stop: { graceMs: 30_000 },
      readyTimeoutMs: 120_000
    }
  })
}
