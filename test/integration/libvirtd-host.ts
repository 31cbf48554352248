// A whole agent, with its scheduler, on a real libvirtd of its own that a test may end and begin: commands in, answers counted, libvirt asked.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { startAgent } from '../../src/agent/app.ts'
import { networkDefaults } from '../../src/agent/firewall/create.ts'
import type { ErrorReport } from '../../src/errors.ts'
import { createLogger } from '../../src/lib/log-output.ts'
import type { CommandResult, CommandSubject } from '../../src/protocol/command.ts'
import { removeTables } from '../contract/libvirt-fixture.ts'
import { enrollHost, openTestFleet } from '../support/enrolled-host.ts'
import { claimsOf, type Signer } from '../support/signed-commands.ts'
import type { TestScheduler } from '../support/test-scheduler.ts'
import { eventually } from './isolation/eventually.ts'
import { PrivateLibvirtd } from './libvirt-connection/private-libvirtd.ts'
import { guestPath } from './provision-host.ts'
import { WatchedRules } from './watched-rules.ts'

const run = promisify(execFile)
const lookMs = 20_000
const uidBase = 1_951_000_000

/** How a command ended: refused, or carried out with a result. */
export type Answer = { readonly refusal: ErrorReport } | { readonly result: CommandResult }

export class LibvirtdHost implements AsyncDisposable {
  readonly name: string
  readonly directory: string
  readonly daemon: PrivateLibvirtd
  readonly scheduler: TestScheduler
  readonly rules: WatchedRules
  /** Ids of commands that were sent. */
  readonly sent: string[] = []
  /** Errors that the agent logged. */
  readonly errors: string[]
  readonly #signer: Signer
  readonly #parts: AsyncDisposableStack

  private constructor(
    parts: AsyncDisposableStack,
    rest: Pick<LibvirtdHost, 'name' | 'directory' | 'daemon' | 'scheduler' | 'rules' | 'errors'> & {
      signer: Signer
    }
  ) {
    this.#parts = parts
    this.#signer = rest.signer
    this.name = rest.name
    this.directory = rest.directory
    this.daemon = rest.daemon
    this.scheduler = rest.scheduler
    this.rules = rest.rules
    this.errors = rest.errors
  }

  static async start(): Promise<LibvirtdHost> {
    await using parts = new AsyncDisposableStack()
    const random = randomBytes(3)
    const name = `hl-t-${random.toString('hex')}`
    const directory = await mkdtemp(`/var/tmp/${name}-`)
    parts.defer(() => rm(directory, { recursive: true, force: true }))
    await chmod(directory, 0o711)
    const daemon = parts.use(await PrivateLibvirtd.startSystem({ ownNetwork: false }))
    parts.defer(() => removeAll(daemon, name))
    parts.defer(() => removeTables(name))
    const rules = parts.use(new WatchedRules(name))
    const fleet = await openTestFleet()
    const { signer } = fleet
    const scheduler = parts.use(fleet.scheduler)
    const subnet = `10.${200 + ((random[0] ?? 0) % 50)}.${random[1]}.0/24`
    const settings = {
      libvirt: { socket: daemon.socket },
      accelerator: 'tcg',
      pool: { name, path: join(directory, 'pool') },
      profiles: { starter: { network: name, bridge: name.replaceAll('-', ''), subnet } },
      network: { ...networkDefaults, table: name },
      vmUids: { first: uidBase + random.readUIntBE(0, 3), count: 64 },
      preparedDisks: 0,
      images: { allowFileUrls: [dirname(guestPath)] },
      backup: { policy: join(directory, 'no-policy.yaml') }
    }
    const { config } = await enrollHost(fleet, directory, settings)
    const errors: string[] = []
    const write = (line: string) => {
      if (JSON.parse(line).level === 'error') errors.push(line)
    }
    parts.use(await startAgent(config, { log: createLogger({ format: 'json', stream: { write } }) }))
    await scheduler.until(() => scheduler.of('heartbeat').at(-1)?.hypervisor === 'connected')
    return new LibvirtdHost(parts.move(), { name, directory, daemon, scheduler, rules, errors, signer })
  }

  /** Sends a command, and resolves with how it ended. */
  async command(verb: string, subject: CommandSubject, args: Record<string, unknown>): Promise<Answer> {
    const { scheduler } = this
    const claims = claimsOf(Date.now(), { id: randomUUID(), verb, subject, arguments: args })
    this.sent.push(claims.id)
    scheduler.send({ type: 'command', jws: await this.#signer.sign(claims) })
    const refusal = () => scheduler.of('refusal').find(({ command }) => command === claims.id)?.error
    const result = () => this.resultsOf(claims.id)[0]
    await scheduler.until(() => refusal() !== undefined || result() !== undefined)
    const [refused, ended] = [refusal(), result()]
    if (ended === undefined) return { refusal: refused as ErrorReport }
    scheduler.send({ type: 'result-ack', command: claims.id })
    return { result: ended }
  }

  acknowledged(id: string): boolean {
    return this.scheduler.of('ack').some(({ command }) => command === id)
  }

  refused(id: string): boolean {
    return this.scheduler.of('refusal').some(({ command }) => command === id)
  }

  resultsOf(id: string): CommandResult[] {
    return this.scheduler.of('result').flatMap(({ result }) => (result.command === id ? [result] : []))
  }

  /** Asks libvirt itself, again where it is away. */
  async virsh(...words: string[]): Promise<string> {
    let said = ''
    const asked = async () => {
      try {
        said = await virshOf(this.daemon, ...words)
        return true
      } catch {
        return false
      }
    }
    await eventually(asked, () => `libvirt to answer ${words.join(' ')}`)
    return said
  }

  /** `running`, `shut off`, …; `absent` where there is no such domain. */
  async stateOf(vm: string): Promise<string> {
    const names = (await this.virsh('list', '--all', '--name')).split('\n').map((line) => line.trim())
    return names.includes(vm) ? (await this.virsh('domstate', vm)).trim() : 'absent'
  }

  async pidOf(vm: string): Promise<number> {
    return Number(await readFile(join(this.daemon.directory, 'run', 'qemu', `${vm}.pid`), 'utf8'))
  }

  /** What there is of a VM besides its domain and its rules: volumes, seed, secrets, address. */
  async remainsOf({ vm, uuid }: Pick<CommandSubject, 'vm' | 'uuid'>): Promise<string[]> {
    const volumes = await readdir(join(this.directory, 'pool'))
    const seeds = await readdir(join(this.directory, 'run', 'seeds'))
    const network = await this.virsh('net-dumpxml', this.name)
    return [
      ...volumes.filter((name) => name.startsWith(`${vm}.`)),
      ...seeds.filter((name) => name.includes(uuid)),
      ...network.split('\n').filter((line) => line.includes(`name='${vm}'`))
    ]
  }

  async secrets(): Promise<string[]> {
    return (await this.virsh('secret-list')).split('\n').filter((line) => line.trim() !== '')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync()
  }
}

async function virshOf(daemon: PrivateLibvirtd, ...words: string[]): Promise<string> {
  const uri = `qemu+unix:///system?socket=${daemon.socket}`
  return (await run('virsh', ['-q', '-c', uri, ...words], { timeout: lookMs })).stdout
}

/** By what the daemon left to know them: machines and its dnsmasq would outlive it. */
async function removeAll(daemon: PrivateLibvirtd, network: string): Promise<void> {
  await daemon.kill()
  daemon.restart()
  await (await daemon.connect()).close()
  const names = (await virshOf(daemon, 'list', '--name')).split('\n').filter((name) => name.trim() !== '')
  for (const name of names) await virshOf(daemon, 'destroy', name.trim())
  await virshOf(daemon, 'net-destroy', network).catch(() => undefined)
  assert.equal((await virshOf(daemon, 'list', '--name')).trim(), '', 'machines that were not ended')
}
