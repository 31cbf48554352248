// A pool whose storage hangs, beside one that does not, under two whole agents on one libvirtd: nothing else stands still.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { startAgent } from '../../src/agent/app.ts'
import { MemoryNft } from '../../src/agent/firewall/memory-nft.ts'
import { LibvirtHypervisor } from '../../src/agent/host/libvirt-hypervisor.ts'
import { createPrivateKey, publicHalf } from '../../src/agent/keys/jwk.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { createLogger } from '../../src/lib/log-output.ts'
import type { CommandResult } from '../../src/protocol/command.ts'
import { enrollHost, openTestFleet } from '../support/enrolled-host.ts'
import { claimsOf, type Signer } from '../support/signed-commands.ts'
import type { TestScheduler } from '../support/test-scheduler.ts'
import { cannotHang, HangingStorage } from './hanging-storage.ts'
import { PrivateLibvirtd } from './libvirt-connection/private-libvirtd.ts'
import { guestPath, guestSpecification } from './provision-host.ts'

const run = promisify(execFile)
const skip =
  cannotHang() ||
  (existsSync('/usr/sbin/libvirtd') && existsSync(guestPath) ? false : 'takes libvirtd and the guest image')
const main = join(import.meta.dirname, '../../src/main.ts')
const uidBase = 1_948_000_000

describe('a pool whose storage hangs', { skip, timeout: 300_000 }, () => {
  it('is told and refused, while the VMs and commands of another pool go on; and is whole again afterwards', async () => {
    await using parts = new AsyncDisposableStack()
    const prefix = `hl-t-${randomBytes(3).toString('hex')}`
    const directory = await mkdtemp(`/var/tmp/${prefix}-`)
    parts.defer(() => rm(directory, { recursive: true, force: true }))
    await chmod(directory, 0o711)
    const storage = parts.use(await HangingStorage.mount(directory))
    const daemon = parts.use(await PrivateLibvirtd.startSystem())
    parts.defer(() => endMachines(daemon, prefix))
    const open = (name: string, pool: string, index: number) =>
      Site.open({ daemon, directory: join(directory, name), prefix: `${prefix}-${name}`, pool, index })
    const hanging = parts.use(await open('a', join(storage.path, 'pool'), 0))
    const good = parts.use(await open('b', join(directory, 'good'), 1))
    parts.defer(() => storage.thaw())

    const [one, two] = await Promise.all([hanging.provision('one'), good.provision('two')])
    await storage.freeze()
    const waiting = await hanging.send('vm.provision', ...hanging.newVm('late'))
    const three = good.provision('three')
    three.catch(() => undefined)

    await good.do('vm.backup', { vm: two.vm, target: 'main' }, two)
    await good.do('vm.stop', { vm: two.vm }, two)
    await good.do('vm.start', { vm: two.vm }, two)
    await hanging.until(() => hanging.conditions.some(({ id }) => id === 'pool-silent'))
    const told = hanging.conditions.find(({ id }) => id === 'pool-silent')
    assert.equal(told?.severity, 'critical')
    assert.match(told.message, new RegExp(`pool ${prefix}-a at ${storage.path}/pool does not answer`))
    assert.deepEqual(good.conditionIds('pool-silent'), [])

    for (const { error } of [
      await hanging.result('vm.provision', ...hanging.newVm('refused')),
      await hanging.result('vm.stop', { vm: one.vm, graceMs: 0 }, one),
      await hanging.result('vm.teardown', { vm: one.vm }, one)
    ]) {
      assert.equal(error?.code, 'E_UNAVAILABLE', JSON.stringify(error))
      assert.match(error.message, /storage of pool .* does not answer/)
    }
    const vms = (await hanging.do('vm.list', {})).vms as { name: string; state: string }[]
    assert.ok(vms.some(({ name, state }) => name === one.vm && state === 'running'))

    const [doctor, third] = await Promise.all([hanging.doctorSaysOfPool(), three])
    assert.equal(doctor, 'failed')
    await good.do('vm.teardown', { vm: third.vm }, third)
    for (const site of [hanging, good]) await site.goesOn()
    assert.equal(hanging.resultOf(waiting), undefined, 'it did not wait for its storage')

    await storage.thaw()
    const late = await hanging.awaitResult(waiting)
    // It waits for two minutes, which is longer than the test takes on a machine that is not very busy.
    if (late.outcome !== 'done') assert.equal(late.error?.code, 'E_TIMEOUT', JSON.stringify(late.error))
    await hanging.until(() => hanging.conditionIds('pool-silent').length === 0)
    assert.equal(await hanging.doctorSaysOfPool(), 'ok')
    await hanging.do('vm.stop', { vm: one.vm }, one)
    for (const site of [hanging, good]) {
      await site.removeAll()
      assert.deepEqual(await site.leftovers(), [])
      assert.ok(
        site.ends().every((times) => times === 1),
        'an operation ended twice'
      )
    }
  })
})

interface Line {
  readonly message: string
  readonly command?: string
}

interface Vm {
  readonly vm: string
  readonly uuid: string
}

/** An agent with a pool, a network and a scheduler of its own. */
class Site implements AsyncDisposable {
  readonly #parts: AsyncDisposableStack
  readonly #scheduler: TestScheduler
  readonly #signer: Signer
  readonly #prefix: string
  readonly #pool: string
  readonly #configPath: string
  readonly #lines: readonly Line[]
  readonly #generations = new Map<string, number>()

  private constructor(of: {
    parts: AsyncDisposableStack
    scheduler: TestScheduler
    signer: Signer
    prefix: string
    pool: string
    configPath: string
    lines: readonly Line[]
  }) {
    this.#parts = of.parts
    this.#scheduler = of.scheduler
    this.#signer = of.signer
    this.#prefix = of.prefix
    this.#pool = of.pool
    this.#configPath = of.configPath
    this.#lines = of.lines
  }

  static async open(options: {
    daemon: PrivateLibvirtd
    directory: string
    prefix: string
    pool: string
    index: number
  }): Promise<Site> {
    const { daemon, directory, prefix, pool, index } = options
    await using parts = new AsyncDisposableStack()
    await mkdir(join(directory, 'repository'), { recursive: true, mode: 0o711 })
    await mkdir(join(directory, 'policy'), { mode: 0o700 })
    const fleet = await openTestFleet()
    const { signer } = fleet
    const scheduler = parts.use(fleet.scheduler)
    const policyPath = join(directory, 'policy', 'policy.yaml')
    const policy = {
      repositories: { main: { url: pathToFileURL(join(directory, 'repository')).href } },
      recovery: [{ jwk: publicHalf(await createPrivateKey()) }]
    }
    await writeFile(policyPath, JSON.stringify(policy), { mode: 0o600 })
    const network = {
      network: prefix,
      bridge: `hlh${randomBytes(3).toString('hex')}`,
      subnet: `10.251.${index}.0/24`
    }
    const settings = {
      libvirt: { socket: daemon.socket },
      accelerator: 'tcg',
      pool: { name: prefix, path: pool },
      profiles: { starter: { ...network, encryption: false } },
      vmUids: { first: uidBase + index * 64, count: 64 },
      images: { allowFileUrls: [dirname(guestPath)] },
      backup: { policy: policyPath, scratchReserveBytes: 16 * 1024 ** 2 },
      metrics: { intervalMs: 2_000 }
    }
    const { config, configPath } = await enrollHost(fleet, directory, settings)
    const lines: Line[] = []
    const log = createLogger({ format: 'json', stream: { write: (line) => lines.push(JSON.parse(line)) } })
    const hypervisor = new LibvirtHypervisor({
      ...config.libvirt,
      accelerator: 'tcg',
      pool: config.pool,
      scratch: { reserveBytes: config.backup.scratchReserveBytes },
      trialUid: config.vmUids.first,
      runtimeDirectory: config.runtimeDirectory,
      // The sockets of its QEMUs, by a name that is the same on both sides of its mounts.
      qemuDirectory: join(daemon.directory, 'lib', 'qemu'),
      clock: systemClock,
      log
    })
    parts.use(await startAgent(config, { log, hypervisor, nft: new MemoryNft() }))
    const site = new Site({ parts: parts.move(), scheduler, signer, prefix, pool, configPath, lines })
    await site.until(() => scheduler.of('inventory').length > 0)
    return site
  }

  get conditions() {
    return this.#scheduler.of('heartbeat').at(-1)?.conditions ?? []
  }

  conditionIds(id: string): string[] {
    return this.conditions.map((condition) => condition.id).filter((each) => each === id)
  }

  until(condition: () => boolean): Promise<void> {
    return this.#scheduler.until(condition)
  }

  /** A VM that counts as ready when it has its address: nobody here is in the network of this libvirtd. */
  newVm(name: string): [Record<string, unknown>, Vm] {
    const about = { vm: `${this.#prefix}-${name}`, uuid: randomUUID() }
    const { ready: _none, ...specification } = guestSpecification({ name: about.vm, uuid: about.uuid })
    return [{ specification }, about]
  }

  async provision(name: string): Promise<Vm> {
    const [args, about] = this.newVm(name)
    await this.do('vm.provision', args, about)
    return about
  }

  /** Returns the id of the command. */
  async send(verb: string, args: Record<string, unknown>, about?: Vm): Promise<string> {
    const generation = (this.#generations.get(about?.uuid ?? '') ?? 0) + 1
    if (about) this.#generations.set(about.uuid, generation)
    const { subject: _other, ...claims } = claimsOf(Date.now(), { verb, arguments: args })
    const jws = await this.#signer.sign({ ...claims, ...(about && { subject: { ...about, generation } }) })
    this.#scheduler.send({ type: 'command', jws })
    return claims.id
  }

  resultOf(id: string): CommandResult | undefined {
    return this.#scheduler.of('result').find(({ result }) => result.command === id)?.result
  }

  async awaitResult(id: string): Promise<CommandResult> {
    await this.until(() => this.resultOf(id) !== undefined)
    return this.resultOf(id) as CommandResult
  }

  async result(verb: string, args: Record<string, unknown>, about?: Vm): Promise<CommandResult> {
    return await this.awaitResult(await this.send(verb, args, about))
  }

  async do(verb: string, args: Record<string, unknown>, about?: Vm): Promise<Record<string, unknown>> {
    const { outcome, error, value } = await this.result(verb, args, about)
    assert.equal(outcome, 'done', `${verb} ${about?.vm}: ${JSON.stringify(error)}`)
    return value ?? {}
  }

  /** Heartbeats, metrics with VMs in them and inventories still come. */
  async goesOn(): Promise<void> {
    const scheduler = this.#scheduler
    const from = scheduler.received.length
    const inventory = this.do('vm.list', {})
    const came = (type: string) => scheduler.received.slice(from).some((message) => message.type === type)
    await this.until(() => came('heartbeat') && came('metrics'))
    await inventory
    const metrics = scheduler.of('metrics').at(-1)?.samples.at(-1)
    assert.ok((metrics?.vms.length ?? 0) > 0, 'metrics without VMs')
  }

  /** Tears down every VM that there is. */
  async removeAll(): Promise<void> {
    const { vms } = (await this.do('vm.list', {})) as { vms: { name: string; uuid: string }[] }
    for (const { name: vm, uuid } of vms) await this.do('vm.teardown', { vm }, { vm, uuid })
  }

  /** VMs, and files of the pool besides base images. */
  async leftovers(): Promise<string[]> {
    const { vms } = (await this.do('vm.list', {})) as { vms: { name: string }[] }
    const files = (await readdir(this.#pool)).filter((name) => !name.startsWith('base-'))
    return [...vms.map(({ name }) => name), ...files]
  }

  /** Of `hostlet doctor`, run as an operator does. */
  async doctorSaysOfPool(): Promise<string> {
    const args = [main, 'doctor', '--config', this.#configPath, '-o', 'json']
    const options = { timeout: 120_000 }
    const { stdout } = await run(process.execPath, args, options).catch((error) => error)
    const { findings } = JSON.parse(stdout) as { findings: { id: string; status: string }[] }
    return findings.find(({ id }) => id === 'pool-answers')?.status ?? 'nothing'
  }

  /** How often each command came to its end. */
  ends(): number[] {
    const ended = this.#lines.filter(({ message }) => /^operation (done|failed)$/.test(message))
    return Object.values(Object.groupBy(ended, ({ command = '' }) => command)).map((all) => all?.length ?? 0)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync()
  }
}

/** What would outlive the daemon: its QEMUs and dnsmasqs. */
async function endMachines(daemon: PrivateLibvirtd, prefix: string): Promise<void> {
  const virsh = async (...words: string[]) =>
    (await run('virsh', ['-q', '-c', `qemu+unix:///system?socket=${daemon.socket}`, ...words])).stdout
  const names = (text: string) => text.split('\n').filter((name) => name.startsWith(prefix))
  for (const name of names(await virsh('list', '--name'))) await virsh('destroy', name).catch(() => undefined)
  for (const name of names(await virsh('net-list', '--name')))
    await virsh('net-destroy', name).catch(() => undefined)
}
