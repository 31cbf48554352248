// Removes all that carries the name of this first light, whoever left it, and checks that nothing is left. Touches no other name.

import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { nft, nftTables } from './nft.ts'
import type { Settings } from './settings.ts'
import { virsh, virshNames } from './virsh.ts'

const patienceMs = 10_000

export class Cleaner {
  readonly #settings: Settings

  constructor(settings: Settings) {
    this.#settings = settings
  }

  /** In the order in which one thing needs the other. Returns what it found. */
  async cleanUp(): Promise<readonly string[]> {
    const removed = [
      ...(await this.#endProcesses(this.#daemons())),
      ...(await this.#removeDomains()),
      ...(await this.#removeNetwork()),
      ...(await this.#removeRules()),
      ...(await this.#removePool())
    ]
    for (const directory of this.#directories()) {
      if (existsSync(directory)) removed.push(directory)
      rmSync(directory, { recursive: true, force: true })
    }
    return removed
  }

  /** Throws naming what is left. */
  async assertNothingLeft(): Promise<string> {
    const left = await this.#left()
    if (left.length > 0)
      throw new Error(
        `still there: ${left.join(', ')}. Run "npm start" again, which removes what an earlier run left`
      )
    return 'no domain, network, firewall table, pool, volume, seed, directory or process of this run'
  }

  async #left(): Promise<readonly string[]> {
    const { network, pool, bridge } = this.#settings
    const [domains, tables, networks, pools] = await Promise.all([
      this.#domains(),
      nftTables(network),
      virshNames('net-list', '--all', '--name'),
      virshNames('pool-list', '--all', '--name')
    ])
    return [
      ...domains.map((name) => `domain ${name}`),
      ...tables.map((table) => `firewall table ${table}`),
      ...(networks.includes(network) ? [`network ${network}`] : []),
      ...(pools.includes(pool) ? [`pool ${pool}`] : []),
      ...(existsSync(`/sys/class/net/${bridge}`) ? [`bridge ${bridge}`] : []),
      ...this.#directories().filter((directory) => existsSync(directory)),
      ...(await this.#processesAfterPatience()).map(({ pid, what }) => `process ${pid} (${what})`)
    ]
  }

  /** A process that has ended may take a moment to be reaped. */
  async #processesAfterPatience(): Promise<readonly Process[]> {
    const deadlineMs = performance.now() + patienceMs
    for (;;) {
      const running = [...this.#daemons(), ...this.#guests()]
      if (running.length === 0 || performance.now() > deadlineMs) return running
      await sleep(100)
    }
  }

  #directories(): readonly string[] {
    const { directory, runtimeDirectory, poolDirectory } = this.#settings
    return [directory, runtimeDirectory, poolDirectory]
  }

  /** Scheduler and agent: whatever runs with one of our configuration files. */
  #daemons(): readonly Process[] {
    const { schedulerConfig, agentConfig } = this.#settings
    return processes((words) => words.includes(schedulerConfig) || words.includes(agentConfig))
  }

  /** QEMU on a disk of our pool, dnsmasq on our network. */
  #guests(): readonly Process[] {
    const { poolDirectory, network } = this.#settings
    const dnsmasqConfig = `/var/lib/libvirt/dnsmasq/${network}.conf`
    return processes((words) =>
      words.some((word) => word.includes(`${poolDirectory}/`) || word.endsWith(dnsmasqConfig))
    )
  }

  async #endProcesses(running: readonly Process[]): Promise<readonly string[]> {
    for (const { pid } of running) signal(pid, 'SIGTERM')
    const deadlineMs = performance.now() + patienceMs
    while (this.#daemons().length > 0 && performance.now() < deadlineMs) await sleep(100)
    for (const { pid } of this.#daemons()) signal(pid, 'SIGKILL')
    return running.map(({ pid, what }) => `process ${pid} (${what})`)
  }

  /** Domains with a disk in our pool's directory. */
  async #domains(): Promise<readonly string[]> {
    const ours: string[] = []
    for (const name of await virshNames('list', '--all', '--name')) {
      const xml = await virsh('dumpxml', '--inactive', name).catch(() => '')
      if (xml.includes(`'${this.#settings.poolDirectory}/`)) ours.push(name)
    }
    return ours
  }

  async #removeDomains(): Promise<readonly string[]> {
    const names = await this.#domains()
    for (const name of names) {
      const keys = secretsIn(await virsh('dumpxml', '--inactive', name))
      await virsh('destroy', name).catch(ignoreInactive)
      await virsh(
        'undefine',
        name,
        '--nvram',
        '--managed-save',
        '--snapshots-metadata',
        '--checkpoints-metadata'
      )
      // Told by an agent that was killed: libvirt would keep them until it restarts.
      for (const key of keys) await virsh('secret-undefine', key).catch(() => undefined)
    }
    return names.map((name) => `domain ${name}`)
  }

  async #removeNetwork(): Promise<readonly string[]> {
    const { network } = this.#settings
    if (!(await virshNames('net-list', '--all', '--name')).includes(network)) return []
    await virsh('net-destroy', network).catch(ignoreInactive)
    await virsh('net-undefine', network)
    return [`network ${network}`]
  }

  async #removeRules(): Promise<readonly string[]> {
    const tables = await nftTables(this.#settings.network)
    for (const table of tables) await nft('delete', 'table', ...table.split(' '))
    return tables.map((table) => `firewall table ${table}`)
  }

  async #removePool(): Promise<readonly string[]> {
    const { pool } = this.#settings
    if (!(await virshNames('pool-list', '--all', '--name')).includes(pool)) return []
    await virsh('pool-destroy', pool).catch(ignoreInactive)
    await virsh('pool-undefine', pool)
    return [`pool ${pool}`]
  }
}

interface Process {
  readonly pid: number
  readonly what: string
}

function processes(matches: (words: readonly string[]) => boolean): readonly Process[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .map((entry) => ({ pid: Number(entry), words: commandLine(entry) }))
    .filter(({ words }) => matches(words))
    .map(({ pid, words }) => ({ pid, what: words.slice(0, 3).join(' ') }))
}

function commandLine(pid: string): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
  } catch {
    // It ended meanwhile.
    return []
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch {
    // It ended meanwhile.
  }
}

/** What does not run cannot be stopped, and need not be; everything else shows when the definition is removed. */
function ignoreInactive(): string {
  return ''
}

/** Names of the keys of a domain's disks. */
function secretsIn(xml: string): readonly string[] {
  return [...xml.matchAll(/<secret type='passphrase' uuid='([0-9a-f-]+)'/g)].map(([, uuid = '']) => uuid)
}
