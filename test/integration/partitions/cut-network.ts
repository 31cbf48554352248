// A network of its own for tests that cut it: a namespace for the scheduler, one for each host, and a router between them that drops.

import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { ip } from '../isolation/outside.ts'

const commandMs = 30_000
/** The test itself reaches the scheduler by another way, which is never cut: of a benchmarking range (RFC 2544). */
const managementNet = '198.18'
const fleetNet = '10.231'

export const directions = ['both', 'to the scheduler', 'from the scheduler'] as const
export type Direction = (typeof directions)[number]

export class CutNetwork implements AsyncDisposable {
  readonly hosts: readonly string[]
  /** Where hosts find the scheduler. */
  readonly schedulerAddress = `${fleetNet}.0.2`
  /** Where the test finds it. */
  readonly managementAddress: string
  readonly #prefix: string
  readonly #device: string
  readonly #testAddress: string

  private constructor(hosts: readonly string[]) {
    const hex = randomBytes(3).toString('hex')
    this.hosts = hosts
    this.#prefix = `hl-t-${hex}`
    this.#device = `m${hex}`
    const net = `${managementNet}.${Math.floor(Math.random() * 256)}`
    this.#testAddress = `${net}.1`
    this.managementAddress = `${net}.2`
  }

  static async open(hosts: readonly string[]): Promise<CutNetwork> {
    await using parts = new AsyncDisposableStack()
    const network = parts.use(new CutNetwork(hosts))
    await network.#build()
    parts.move()
    return network
  }

  /** The command line that runs something where the scheduler or a host is; it ends with this process. */
  inside(name: string, ...words: readonly string[]): string[] {
    return ['setpriv', '--pdeathsig', 'KILL', 'ip', 'netns', 'exec', this.#namespace(name), ...words]
  }

  /** Everything that does not come through between these hosts and the scheduler, in place of what was cut before. */
  async cut(cuts: Readonly<Record<string, Direction>>): Promise<void> {
    await this.#drop(Object.entries(cuts).flatMap(([host, direction]) => matches(host, direction)))
  }

  /** Loses so many of a hundred packets, at random and each way. */
  async lose(host: string, percent: number): Promise<void> {
    const some = `numgen random mod 100 < ${percent}`
    await this.#drop(matches(host, 'both').map((match) => `${match} ${some}`))
  }

  async heal(): Promise<void> {
    await this.#drop([])
  }

  /** So many bits a second each way, and a packet waits for at most so long. */
  async slow(host: string, bitsPerSecond: number): Promise<void> {
    const bucket = ['tbf', 'rate', `${bitsPerSecond}bit`, 'burst', '3000', 'latency', '800ms']
    await this.#exec('router', 'tc', 'qdisc', 'replace', 'dev', host, 'root', ...bucket)
    await this.#exec(host, 'tc', 'qdisc', 'replace', 'dev', 'uplink', 'root', ...bucket)
  }

  async hurry(host: string): Promise<void> {
    await this.#exec('router', 'tc', 'qdisc', 'delete', 'dev', host, 'root')
    await this.#exec(host, 'tc', 'qdisc', 'delete', 'dev', 'uplink', 'root')
  }

  /** Devices go with the namespaces they are in, and their other ends with them. */
  async [Symbol.asyncDispose](): Promise<void> {
    await ip('link', 'delete', this.#device).catch(() => undefined)
    for (const name of ['router', 'scheduler', ...this.hosts])
      await ip('netns', 'delete', this.#namespace(name)).catch(() => undefined)
  }

  async #build(): Promise<void> {
    const scheduler = this.#namespace('scheduler')
    for (const name of ['router', 'scheduler', ...this.hosts]) {
      await ip('netns', 'add', this.#namespace(name))
      await ip('-n', this.#namespace(name), 'link', 'set', 'lo', 'up')
    }
    await ip('link', 'add', this.#device, 'type', 'veth', 'peer', 'name', 'test', 'netns', scheduler)
    await ip('address', 'add', `${this.#testAddress}/30`, 'dev', this.#device)
    await ip('link', 'set', this.#device, 'up')
    await ip('-n', scheduler, 'address', 'add', `${this.managementAddress}/30`, 'dev', 'test')
    await ip('-n', scheduler, 'link', 'set', 'test', 'up')
    for (const [index, name] of ['scheduler', ...this.hosts].entries()) await this.#connect(name, index)
    await this.#exec('router', 'sysctl', '-q', '-w', 'net.ipv4.ip_forward=1')
  }

  async #connect(name: string, index: number): Promise<void> {
    const [router, namespace] = [this.#namespace('router'), this.#namespace(name)]
    await ip('-n', router, 'link', 'add', name, 'type', 'veth', 'peer', 'name', 'uplink', 'netns', namespace)
    await ip('-n', router, 'address', 'add', `${fleetNet}.${index}.1/30`, 'dev', name)
    await ip('-n', router, 'link', 'set', name, 'up')
    await ip('-n', namespace, 'address', 'add', `${fleetNet}.${index}.2/30`, 'dev', 'uplink')
    await ip('-n', namespace, 'link', 'set', 'uplink', 'up')
    await ip('-n', namespace, 'route', 'add', `${fleetNet}.0.0/16`, 'via', `${fleetNet}.${index}.1`)
  }

  /** In one transaction, so that nothing slips through between one partition and the next. */
  async #drop(matching: readonly string[]): Promise<void> {
    const hook = 'type filter hook forward priority 0; policy accept;'
    const lines = [hook, ...matching.map((match) => `${match} drop`)].join('\n')
    const table = `table inet cut\ndelete table inet cut\ntable inet cut {\nchain forward {\n${lines}\n}\n}`
    await this.#exec('router', 'nft', table)
  }

  async #exec(name: string, ...words: readonly string[]): Promise<void> {
    const [program = '', ...rest] = this.inside(name, ...words)
    await new Promise<void>((resolve, reject) =>
      execFile(program, rest, { timeout: commandMs }, (error, _stdout, stderr) =>
        error ? reject(new Error(`${words.join(' ')}: ${stderr}`, { cause: error })) : resolve()
      )
    )
  }

  #namespace(name: string): string {
    return `${this.#prefix}-${name}`
  }
}

/** The router's device to a host has the host's name. */
function matches(host: string, direction: Direction): string[] {
  return [
    ...(direction === 'from the scheduler' ? [] : [`iifname "${host}"`]),
    ...(direction === 'to the scheduler' ? [] : [`oifname "${host}"`])
  ]
}
