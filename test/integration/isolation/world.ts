// A host with guests of several customers, an agent that guards them, and the world outside: what the isolation tests attack in.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { VmNetwork, VmSpecification } from '../../../src/protocol/vm.ts'
import type { LibvirtFixture } from '../../contract/libvirt-fixture.ts'
import { BackupAgent } from '../backup-agent.ts'
import { cannotProvision, guestPath, guestSpecification } from '../provision-host.ts'
import { Attacker } from './attacker.ts'
import { Capture } from './capture.ts'
import { HostPorts } from './host-ports.ts'
import { ip, Outside } from './outside.ts'

const run = promisify(execFile)
const commandMs = 30_000
export const attackerPath = guestPath.replace('hostlet-guest', 'hostlet-attacker')
/** Of the host, for mappings of the tests. */
const mappedPorts = 64
/** Several guests boot at once, emulated, on a machine that may be busy. */
const readyMs = 400_000

export async function cannotAttack(): Promise<string | false> {
  if (!existsSync(attackerPath)) return 'the guest image is not built: run "sh scripts/setup.sh"'
  if (process.getuid?.() !== 0) return 'making namespaces and tables needs root'
  return await cannotProvision()
}

export class World implements AsyncDisposable {
  readonly agent: BackupAgent
  readonly outside: Outside
  readonly hostPorts: HostPorts
  readonly firstPort: number
  readonly #parts: AsyncDisposableStack
  readonly #captures = new Map<string, Capture>()
  #words = 0

  private constructor(
    parts: AsyncDisposableStack,
    options: { agent: BackupAgent; outside: Outside; hostPorts: HostPorts; firstPort: number }
  ) {
    this.#parts = parts
    this.agent = options.agent
    this.outside = options.outside
    this.hostPorts = options.hostPorts
    this.firstPort = options.firstPort
  }

  static async open(): Promise<World> {
    await using parts = new AsyncDisposableStack()
    const firstPort = 20_000 + Math.floor(Math.random() * 100) * mappedPorts
    let outside: Outside | undefined
    const settings = (fixture: LibvirtFixture) => ({
      profiles: profilesOf(fixture, outside as Outside),
      network: {
        table: fixture.network.name,
        resolvers: [(outside as Outside).resolver],
        ports: { first: firstPort, last: firstPort + mappedPorts - 1 }
      }
    })
    outside = parts.use(await Outside.open(`hl-t-${randomBytes(3).toString('hex')}`))
    const agent = parts.use(await BackupAgent.open({ settings }))
    const hostPorts = parts.use(await HostPorts.open())
    await agent.spawn()
    return new World(parts.move(), { agent, outside, hostPorts, firstPort })
  }

  get prefix(): string {
    return this.agent.fixture.prefix
  }

  /** Words for one attack: they are looked for wherever they must not arrive. */
  words(): string {
    this.#words++
    return `hlt-${this.prefix.slice(-6)}-${this.#words}_`
  }

  /** Why a guest that asks for this is not provided. */
  async refusal(
    name: string,
    profile: string,
    network: VmNetwork
  ): Promise<{ code: string; message: string }> {
    const uuid = randomUUID()
    const vm = `${this.prefix}-${name}`
    const specification = guestSpecification({ name: vm, uuid, profile, network })
    return await this.agent.failure('vm.provision', { specification }, { vm, uuid })
  }

  async addGuest(
    name: string,
    profile: string,
    { network, ...changes }: Partial<VmSpecification> & { network?: VmNetwork } = {}
  ): Promise<Attacker> {
    const image = {
      url: `file://${attackerPath}`,
      sha256: readFileSync(`${attackerPath}.sha256`, 'utf8').trim(),
      format: 'qcow2' as const
    }
    const { vm, uuid, address } = await this.agent.addGuest(name, {
      image,
      profile,
      ready: { http: { port: 80, path: '/' }, timeoutMs: readyMs },
      ...(network && { network }),
      ...changes
    })
    return await this.attackerOf({ vm, uuid, address })
  }

  async attackerOf({ vm, uuid, address }: { vm: string; uuid: string; address: string }): Promise<Attacker> {
    const xml = await this.agent.fixture.virsh('dumpxml', vm)
    const mac = /<mac address='([^']+)'/.exec(xml)?.[1]
    const bridge = /<source network='[^']+'[^>]* bridge='([^']+)'/.exec(xml)?.[1]
    const tap = /<target dev='([^']+)'\/>\s*<model type='virtio'/.exec(xml)?.[1]
    assert.ok(mac && bridge && tap, `the network card of ${vm}: ${xml}`)
    const [link] = JSON.parse(await ip('-j', 'address', 'show', 'dev', bridge)) as {
      address: string
      addr_info: { family: string; local: string }[]
    }[]
    const local = link?.addr_info.find(({ family }) => family === 'inet')?.local
    assert.ok(link && local, `${bridge} has no address`)
    return new Attacker({
      vm,
      uuid,
      address,
      mac,
      bridge,
      tap,
      gateway: { address: local, mac: link.address }
    })
  }

  /** What of the tests' words came into the host over a bridge. */
  async captureBridge(bridge: string): Promise<Capture> {
    const found = this.#captures.get(bridge)
    if (found) return found
    const path = join(this.agent.directory, `${bridge}.capture`)
    const capture = this.#parts.use(await Capture.open({ device: bridge, path }))
    this.#captures.set(bridge, capture)
    return capture
  }

  /** Into a bridge, as if the host itself said it. */
  async sendFromHost(bridge: string, frame: Buffer): Promise<void> {
    const path = join(this.agent.directory, 'frame')
    await writeFile(path, frame)
    await run('socat', ['-u', `OPEN:${path}`, `INTERFACE:${bridge}`], { timeout: commandMs })
  }

  /** As somebody does who does not know whose it is. */
  async deleteTables(): Promise<void> {
    await deleteTables(this.prefix)
  }

  async areRulesInForce(): Promise<boolean> {
    const { stdout } = await run('nft', ['list', 'tables'], { timeout: commandMs })
    const lines = stdout.split('\n')
    return ['inet', 'bridge'].every((family) => lines.includes(`table ${family} ${this.prefix}`))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync()
  }
}

/**
 * `shared`: a bridge for all, and the way out open; `sealed` and `listed`: a bridge for each VM, no way out, or to one
 * address.
 */
function profilesOf({ network, prefix }: LibvirtFixture, outside: Outside): Record<string, unknown> {
  const hex = prefix.slice(-6)
  const [, second = 0, third = 0] = network.subnet.split('.').map(Number)
  const subnet = (shift: number) => `10.${second - shift}.${third}.0/24`
  const target = { transport: 'tcp', addresses: [`${outside.server}/32`], ports: [8080] }
  return {
    shared: {
      ...network,
      network: network.name,
      name: undefined,
      egress: { mode: 'all' },
      encryption: false
    },
    sealed: {
      network: `${prefix}-s`,
      bridge: `s${hex}`,
      subnet: subnet(50),
      ownBridge: true,
      egress: { mode: 'none' },
      dns: false,
      encryption: false
    },
    listed: {
      network: `${prefix}-l`,
      bridge: `l${hex}`,
      subnet: subnet(100),
      ownBridge: true,
      egress: { mode: 'list', allow: [target] },
      dns: false,
      encryption: false
    }
  }
}

async function deleteTables(table: string): Promise<void> {
  for (const family of ['inet', 'bridge'])
    await run('nft', ['delete', 'table', family, table], { timeout: commandMs }).catch(() => undefined)
}
