// The world outside the host: a network namespace with addresses of the internet and of private networks, and servers on them.

import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { Capture } from './capture.ts'
import { eventually } from './eventually.ts'

const run = promisify(execFile)
const commandMs = 30_000
const server = join(import.meta.dirname, 'outside-server.ts')
/** Documentation ranges (RFC 5737) in parts of sixteen addresses, so that two runs at once do not meet. */
const slices = 16
const metadataAddress = '169.254.169.254'

export interface Arrival {
  readonly transport: 'tcp' | 'udp'
  readonly to: string
  readonly port: number
  readonly from: string
  readonly fromPort: number
  readonly text: string
}

export class Outside implements AsyncDisposable {
  readonly namespace: string
  /** Of the host, on the link to it. */
  readonly hostAddress: string
  /** A server of the internet, and another one. */
  readonly server: string
  readonly otherServer: string
  readonly resolver: string
  readonly foreignResolver: string
  /** Sources of connections to mapped ports. */
  readonly client: string
  readonly otherClient: string
  /** What no VM may reach: private, shared, link-local and metadata addresses. */
  readonly forbidden: Readonly<Record<string, string>>
  readonly arrivals: Arrival[] = []
  readonly #device: string
  readonly #directory: string
  #child: ChildProcess | undefined
  #capture: Capture | undefined

  private constructor({ prefix, part, directory }: { prefix: string; part: number; directory: string }) {
    this.#directory = directory
    const at = (net: string, host: number) => `${net}.${part * slices + host}`
    this.namespace = `${prefix}-out`
    this.#device = `o${prefix.replaceAll('-', '')}`.slice(0, 15)
    this.hostAddress = at('198.51.100', 1)
    this.server = at('198.51.100', 2)
    this.otherServer = at('203.0.113', 3)
    this.resolver = at('198.51.100', 4)
    this.foreignResolver = at('203.0.113', 5)
    this.client = at('198.51.100', 6)
    this.otherClient = at('198.51.100', 7)
    this.forbidden = {
      'private 10/8': `10.77.${part}.5`,
      'private 172.16/12': `172.31.${part}.5`,
      'private 192.168/16': `192.168.${200 + part}.5`,
      'shared 100.64/10': `100.100.${part}.5`,
      'link-local 169.254/16': `169.254.77.${part + 1}`,
      metadata: metadataAddress
    }
  }

  static async open(prefix: string): Promise<Outside> {
    await using parts = new AsyncDisposableStack()
    const directory = await mkdtemp(join(tmpdir(), `${prefix}-`))
    const outside = parts.use(new Outside({ prefix, part: await freePart(), directory }))
    await outside.#build()
    await outside.#serve()
    outside.#capture = await Capture.open({
      device: 'uplink',
      namespace: outside.namespace,
      path: join(directory, 'outside.capture')
    })
    parts.move()
    return outside
  }

  get addresses(): string[] {
    const { server, otherServer, resolver, foreignResolver, client, otherClient } = this
    return [
      server,
      otherServer,
      resolver,
      foreignResolver,
      client,
      otherClient,
      ...Object.values(this.forbidden)
    ]
  }

  /** Whether these words came by, in a frame of any kind or at a server. */
  heard(words: string): boolean {
    assert.equal(
      this.#child?.exitCode ?? this.#child?.signalCode ?? null,
      null,
      'the servers outside are gone'
    )
    return this.arrivals.some(({ text }) => text.includes(words)) || (this.#capture?.saw(words) ?? false)
  }

  /** Forgets what it heard, which may have been much. */
  forget(): void {
    this.arrivals.length = 0
    this.#capture?.forget()
  }

  async receivedBytes(): Promise<number> {
    return Number(await this.exec('cat', '/sys/class/net/uplink/statistics/rx_bytes'))
  }

  async exec(command: string, ...args: string[]): Promise<string> {
    return await ip('netns', 'exec', this.namespace, command, ...args)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#capture?.[Symbol.asyncDispose]()
    if (this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, 'exit')
      this.#child.kill('SIGKILL')
      await exited
    }
    // Its routes and the other end go with the device.
    await ip('link', 'delete', this.#device).catch(() => undefined)
    await ip('netns', 'delete', this.namespace).catch(() => undefined)
    await rm(this.#directory, { recursive: true, force: true })
  }

  async #build(): Promise<void> {
    const { namespace, hostAddress } = this
    const device = this.#device
    await ip('netns', 'add', namespace)
    await ip('link', 'add', device, 'type', 'veth', 'peer', 'name', 'uplink', 'netns', namespace)
    await ip('address', 'add', `${hostAddress}/28`, 'dev', device)
    await ip('link', 'set', device, 'up')
    const inside = (...args: string[]) => ip('-n', namespace, ...args)
    for (const address of this.addresses) {
      const bits = address.startsWith('198.51.100.') ? 28 : 32
      await inside('address', 'add', `${address}/${bits}`, 'dev', 'uplink')
    }
    await inside('link', 'set', 'lo', 'up')
    await inside('link', 'set', 'uplink', 'up')
    await inside('route', 'add', 'default', 'via', hostAddress)
    for (const address of this.addresses.filter((each) => !each.startsWith('198.51.100.')))
      await this.#route(address)
  }

  /** Another run may have the metadata address at the moment: there is only one. */
  async #route(address: string): Promise<void> {
    const add = () =>
      ip('route', 'add', `${address}/32`, 'via', this.server, 'dev', this.#device).then(
        () => true,
        (error: Error) => {
          if (error.message.includes('File exists')) return false
          throw error
        }
      )
    await eventually(add, `a route to ${address}, which the host has already`)
  }

  async #serve(): Promise<void> {
    const command = ['--pdeathsig', 'KILL', 'ip', 'netns', 'exec', this.namespace]
    const child = spawn('setpriv', [...command, process.execPath, server, ...this.addresses], {
      stdio: ['ignore', 'pipe', 'inherit']
    })
    this.#child = child
    let ready = false
    createInterface({ input: child.stdout }).on('line', (line) => {
      const message = JSON.parse(line) as Arrival & { ready?: boolean }
      if (message.ready) ready = true
      else this.arrivals.push(message)
    })
    await eventually(() => ready, 'the servers outside')
  }
}

async function freePart(): Promise<number> {
  const routes = await ip('-4', 'route')
  const first = Math.floor(Math.random() * slices)
  const order = Array.from({ length: slices }, (_, index) => (first + index) % slices)
  const free = order.find((part) => !routes.includes(`198.51.100.${part * slices}/28`))
  if (free === undefined) throw new Error('all parts of 198.51.100.0/24 are in use on this host')
  return free
}

export async function ip(...args: string[]): Promise<string> {
  const { stdout } = await run('ip', args, { timeout: commandMs })
  return stdout
}
