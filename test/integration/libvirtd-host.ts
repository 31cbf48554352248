// A whole agent on a libvirtd of its own, which a test may kill: real guests in a network namespace that lasts, a scheduler in this process.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { startAgent } from '../../src/agent/app.ts'
import { loadAgentConfig } from '../../src/agent/config.ts'
import { MemoryNft } from '../../src/agent/firewall/memory-nft.ts'
import { saveIdentity } from '../../src/agent/identity/identity.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { createLogger } from '../../src/lib/log-output.ts'
import type { CommandResult } from '../../src/protocol/command.ts'
import { hostlet } from '../cli/program.ts'
import { claimsOf, createSigner, type Signer } from '../support/signed-commands.ts'
import { TestAuthority, trustDomain } from '../support/test-authority.ts'
import { TestScheduler } from '../support/test-scheduler.ts'
import { eventually } from './isolation/eventually.ts'
import { ip } from './isolation/outside.ts'
import { PrivateLibvirtd } from './libvirt-connection/private-libvirtd.ts'
import { guestPath, guestSpecification } from './provision-host.ts'

const run = promisify(execFile)
const patienceMs = 300_000
const virshMs = 60_000

/** Why such a host cannot be had here; false where it can. */
export function cannotOwnLibvirtd(): string | false {
  if (!existsSync('/usr/sbin/libvirtd') || process.getuid?.() !== 0) return 'takes libvirtd and root'
  return existsSync(guestPath) ? false : 'the guest image is not built: run "sh scripts/setup.sh"'
}

/** A VM of the test: its commands go out one after the other, each newer than the last. */
export interface Subject {
  readonly vm: string
  readonly uuid: string
  generation: number
}

interface Parts {
  readonly prefix: string
  readonly directory: string
  readonly daemon: PrivateLibvirtd
  readonly scheduler: TestScheduler
  readonly signer: Signer
}

export class LibvirtdHost implements AsyncDisposable {
  readonly directory: string
  readonly daemon: PrivateLibvirtd
  readonly lines: { level: string; message: string }[] = []
  readonly #prefix: string
  readonly #scheduler: TestScheduler
  readonly #signer: Signer
  readonly #owned: AsyncDisposableStack

  private constructor(owned: AsyncDisposableStack, { prefix, directory, daemon, scheduler, signer }: Parts) {
    this.#owned = owned
    this.#prefix = prefix
    this.directory = directory
    this.daemon = daemon
    this.#scheduler = scheduler
    this.#signer = signer
  }

  /** Connected, and without a VM. `pool`: a directory for it, instead of one of its own. */
  static async open({ pool }: { pool?: string } = {}): Promise<LibvirtdHost> {
    const owned = new AsyncDisposableStack()
    try {
      const prefix = `hl-t-${randomBytes(3).toString('hex')}`
      const directory = mkdtempSync(`/var/tmp/${prefix}-`)
      chmodSync(directory, 0o711)
      owned.defer(() => rmSync(directory, { recursive: true, force: true }))
      await ip('netns', 'add', prefix)
      owned.defer(async () => void (await ip('netns', 'delete', prefix)))
      const daemon = owned.use(await PrivateLibvirtd.startSystem({ network: prefix }))
      const authority = await TestAuthority.create()
      const uris = [`spiffe://${trustDomain}/scheduler/main`]
      const server = await authority.issue({ usage: 'server', uris })
      const scheduler = owned.use(await TestScheduler.listen({ authority, server }))
      const signer = await createSigner()
      const host = new LibvirtdHost(owned, { prefix, directory, daemon, scheduler, signer })
      saveIdentity(host.stateDirectory, await authority.identity({ commandKeys: [signer.publicKey] }))
      await host.#start(pool ?? join(directory, 'pool'))
      return host
    } catch (error) {
      await owned.disposeAsync()
      throw error
    }
  }

  get stateDirectory(): string {
    return join(this.directory, 'state')
  }

  /** What the agent last said of its hypervisor. */
  get hypervisor(): string | undefined {
    return this.#scheduler.of('heartbeat').at(-1)?.hypervisor
  }

  newVm(name: string): Subject {
    return { vm: `${this.#prefix}-${name}`, uuid: randomUUID(), generation: 0 }
  }

  provision(subject: Subject): Promise<CommandResult> {
    const { vm: name, uuid } = subject
    const whole = guestSpecification({ name, uuid, ready: { timeoutMs: patienceMs } })
    return this.do('vm.provision', subject, { specification: whole })
  }

  /** Resolves with the end of the command; one that is refused for now is asked for again, as a scheduler does. */
  async do(verb: string, subject: Subject, args: Record<string, unknown> = {}): Promise<CommandResult> {
    for (const signal = AbortSignal.timeout(patienceMs); ; ) {
      const { vm, uuid } = subject
      const generation = ++subject.generation
      const rest = verb === 'vm.provision' ? args : { vm, ...args }
      const claims = claimsOf(Date.now(), { verb, arguments: rest, subject: { vm, uuid, generation } })
      const { id } = claims
      this.#scheduler.send({ type: 'command', jws: await this.#signer.sign(claims) })
      const refusal = () => this.#scheduler.of('refusal').find(({ command }) => command === id)
      await eventually(
        () => refusal() !== undefined || this.#take(id) !== undefined,
        () => `the end of ${verb} of ${vm}:\n${this.lastWords()}`,
        patienceMs
      )
      const result = this.#take(id)
      if (result !== undefined) return result
      assert.equal(refusal()?.error.code, 'E_UNAVAILABLE', `${verb}: ${JSON.stringify(refusal()?.error)}`)
      await systemClock.sleep(500, signal)
    }
  }

  /** Every command that was taken has one end in the trail of the host. Resolves with their number. */
  async assertOneEndEach(): Promise<number> {
    const ids = this.#scheduler.of('ack').map(({ command }) => command)
    const path = join(this.directory, 'trail.jsonl')
    const words = ['audit', 'export', '--state-directory', this.stateDirectory, '--out', path]
    const { status, stderr } = await hostlet(words)
    assert.equal(status, 0, stderr)
    const entries = readFileSync(path, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { kind: string; command?: string })
    for (const id of new Set(ids)) {
      const ends = entries.filter(({ kind, command }) => kind === 'operation.ended' && command === id)
      assert.equal(ends.length, 1, `command ${id}`)
    }
    return new Set(ids).size
  }

  /** Domains, volumes of VMs, networks' reservations and seeds that are on the host. */
  async leftovers(): Promise<string[]> {
    const domains = await this.virsh('list', '--all', '--name')
    const volumes = (await this.virsh('vol-list', this.#prefix)).map((line) => line.split(/\s+/)[0] ?? '')
    const network = await this.virsh('net-dumpxml', this.#prefix)
    const runtime = join(this.directory, 'run', 'seeds')
    const seeds = existsSync(runtime) ? (await run('ls', [runtime])).stdout.split('\n').filter(Boolean) : []
    return [
      ...domains,
      ...volumes.filter((name) => !name.startsWith('base-')),
      ...network.filter((line) => line.includes('<host mac')),
      ...seeds
    ]
  }

  /** Lines of its answer that are not empty. */
  async virsh(...words: readonly string[]): Promise<string[]> {
    const uri = `qemu+unix:///system?socket=${this.daemon.socket}`
    const { stdout } = await run('virsh', ['-q', '-c', uri, ...words], { timeout: virshMs })
    return stdout
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '')
  }

  /** The process of a machine; undefined while it has none. */
  qemuOf({ vm }: Subject): number | undefined {
    const path = join(this.daemon.directory, 'run', 'qemu', `${vm}.pid`)
    return existsSync(path) ? Number(readFileSync(path, 'utf8')) || undefined : undefined
  }

  lastWords(): string {
    return this.lines
      .slice(-15)
      .map((line) => JSON.stringify(line))
      .join('\n')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync()
  }

  async #start(pool: string): Promise<void> {
    const path = join(this.directory, 'agent.yaml')
    const name = this.#prefix
    const network = { network: name, bridge: name.replaceAll('-', ''), subnet: '10.239.0.0/24' }
    const settings = {
      stateDirectory: this.stateDirectory,
      runtimeDirectory: join(this.directory, 'run'),
      schedulerUrls: [this.#scheduler.socketUrl],
      libvirt: { socket: this.daemon.socket },
      accelerator: 'tcg',
      pool: { name, path: pool },
      preparedDisks: 0,
      profiles: { starter: { ...network, encryption: false } },
      network: { table: name },
      images: { allowFileUrls: [dirname(guestPath)] },
      backup: { policy: join(this.directory, 'no-policy.yaml') }
    }
    writeFileSync(path, JSON.stringify(settings))
    this.#owned.defer(() => this.#removeAll())
    const stream = { write: (line: string) => this.lines.push(JSON.parse(line)) }
    const log = createLogger({ format: 'json', level: 'debug', stream })
    this.#owned.use(await startAgent(loadAgentConfig(path, {}), { log, nft: new MemoryNft() }))
    await eventually(
      () => this.#scheduler.of('inventory').length > 0,
      () => `the inventory:\n${this.lastWords()}`
    )
  }

  #take(id: string): CommandResult | undefined {
    const result = this.#scheduler.of('result').find((message) => message.result.command === id)?.result
    if (result !== undefined) this.#scheduler.send({ type: 'result-ack', command: id })
    return result
  }

  /** The daemon's machines and dnsmasq, which would outlive it. */
  async #removeAll(): Promise<void> {
    for (const vm of await this.virsh('list', '--name').catch(() => []))
      await this.virsh('destroy', vm).catch(() => undefined)
    await this.virsh('net-destroy', this.#prefix).catch(() => undefined)
  }
}
