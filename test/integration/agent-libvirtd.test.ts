// The whole agent while its libvirtd is absent, comes, dies, comes back and hangs: it stays up, says so once, and tells the scheduler anew.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { domainUndefine } from 'node-libvirt'
import { startAgent } from '../../src/agent/app.ts'
import { MemoryNft } from '../../src/agent/firewall/memory-nft.ts'
import { createLogger } from '../../src/lib/log-output.ts'
import { enrollHost, openTestFleet } from '../support/enrolled-host.ts'
import { claimsOf, type Signer } from '../support/signed-commands.ts'
import type { TestScheduler } from '../support/test-scheduler.ts'
import { defineOwnedDomain } from './libvirt-connection/owned-domain.ts'
import { PrivateLibvirtd } from './libvirt-connection/private-libvirtd.ts'

const skip = existsSync('/usr/sbin/libvirtd') && process.getuid?.() === 0 ? false : 'takes libvirtd and root'
const pool = 'hl-t-agent'

describe('an agent whose libvirtd comes and goes', { skip, timeout: 120_000 }, () => {
  it('stays up, says once that it is away, and tells the scheduler anew each time that it is back', async () => {
    await using daemon = await PrivateLibvirtd.startSystem()
    await daemon.kill()
    await using fleet = await Fleet.start(daemon)
    const { scheduler } = fleet

    await scheduler.until(() => fleet.hypervisor === 'away')
    assert.deepEqual(scheduler.of('inventory'), [], 'an inventory without a libvirtd')
    assert.equal(await fleet.ask(), 'E_UNAVAILABLE')

    daemon.restart()
    await fleet.backWith('first')

    await daemon.kill()
    assert.equal(await fleet.ask(), 'E_UNAVAILABLE')
    daemon.restart()
    await fleet.backWith('second')

    daemon.freeze()
    await fleet.said('libvirt is away', 3)
    assert.equal(await fleet.ask(), 'E_UNAVAILABLE')
    daemon.thaw()
    await fleet.backWith('third')

    assert.equal(scheduler.connections, 1, 'the connection to the scheduler did not last')
    assert.deepEqual(fleet.libvirtLines(), [
      ...['libvirt is away', 'connected to libvirt'],
      ...['libvirt is away', 'connected to libvirt'],
      ...['libvirt is away', 'connected to libvirt']
    ])
    assert.deepEqual(fleet.errors(), [])
  })
})

/** A scheduler with one agent on a libvirtd. */
class Fleet implements AsyncDisposable {
  readonly scheduler: TestScheduler
  readonly #daemon: PrivateLibvirtd
  readonly #parts: AsyncDisposableStack
  readonly #signer: Signer
  readonly #lines: { level: string; message: string }[]
  #inventories = 0

  private constructor(
    scheduler: TestScheduler,
    daemon: PrivateLibvirtd,
    rest: {
      parts: AsyncDisposableStack
      signer: Signer
      lines: { level: string; message: string }[]
    }
  ) {
    this.scheduler = scheduler
    this.#daemon = daemon
    this.#parts = rest.parts
    this.#signer = rest.signer
    this.#lines = rest.lines
  }

  static async start(daemon: PrivateLibvirtd): Promise<Fleet> {
    await using parts = new AsyncDisposableStack()
    const directory = await mkdtemp(join(tmpdir(), 'hostlet-agent-libvirtd-'))
    parts.defer(() => rm(directory, { recursive: true, force: true }))
    const fleet = await openTestFleet()
    const { signer } = fleet
    const scheduler = parts.use(fleet.scheduler)
    const settings = {
      libvirt: { socket: daemon.socket },
      accelerator: 'tcg',
      pool: { name: pool, path: join(directory, 'pool') }
    }
    const { config } = await enrollHost(fleet, directory, settings)
    const lines: { level: string; message: string }[] = []
    const log = createLogger({ format: 'json', stream: { write: (line) => lines.push(JSON.parse(line)) } })
    parts.use(await startAgent(config, { log, nft: new MemoryNft() }))
    return new Fleet(scheduler, daemon, { parts: parts.move(), signer, lines })
  }

  /** As the last heartbeat told it. */
  get hypervisor(): string | undefined {
    return this.scheduler.of('heartbeat').at(-1)?.hypervisor
  }

  /** How a look at the VMs ends: the code of its error, or how it went. */
  async ask(): Promise<string | undefined> {
    const { subject: _none, ...look } = claimsOf(Date.now(), { verb: 'vm.list', arguments: {} })
    this.scheduler.send({ type: 'command', jws: await this.#signer.sign(look) })
    const answer = () => this.scheduler.of('result').find(({ result }) => result.command === look.id)?.result
    await this.scheduler.until(() => answer() !== undefined)
    return answer()?.error?.code ?? answer()?.outcome
  }

  /** Waits until libvirt is told to be there, with an inventory, and events of a new domain arrive. */
  async backWith(name: string): Promise<void> {
    const { scheduler } = this
    await scheduler.until(() => scheduler.of('inventory').length > this.#inventories)
    assert.equal(await this.ask(), 'done')
    await using connection = await this.#daemon.connect()
    const domain = await defineOwnedDomain(connection, { name, pool, type: 'qemu' })
    await this.#event(name, 'defined')
    await connection.call(domainUndefine, { domain })
    await this.#event(name, 'undefined')
    this.#inventories = scheduler.of('inventory').length
  }

  async said(message: string, times: number): Promise<void> {
    const count = () => this.#lines.filter((line) => line.message === message).length
    await this.scheduler.until(() => count() >= times)
  }

  libvirtLines(): string[] {
    const known = ['libvirt is away', 'connected to libvirt']
    return this.#lines.map(({ message }) => message).filter((message) => known.includes(message))
  }

  errors(): string[] {
    return this.#lines.filter(({ level }) => level === 'error').map(({ message }) => message)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync()
  }

  async #event(vm: string, kind: string): Promise<void> {
    const { scheduler } = this
    await scheduler.until(() => scheduler.of('event').some((event) => event.vm === vm && event.kind === kind))
  }
}
