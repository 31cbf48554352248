// A packet filter in memory, for tests of what uses one: keeps tables as nft does, and filters nothing.

import { HostletError } from '../../errors.ts'
import type { Wait } from '../host/hypervisor.ts'
import type { Nft } from './nft.ts'
import type { NftCommand, NftObject } from './nft-json.ts'

export class MemoryNft implements Nft {
  /** What the next transactions fail with; undefined while all is well. */
  fault: string | undefined
  /** Transactions that were applied. */
  applied = 0
  #tables = new Map<string, NftObject[]>()
  readonly #watchers = new Set<{ table: string; onChange: () => void }>()

  async apply(commands: readonly NftCommand[], wait: Wait): Promise<void> {
    wait.signal.throwIfAborted()
    this.#require()
    this.#tables = this.#after(commands)
    this.applied++
    this.#tell(new Set(commands.map((command) => nameOf(objectOf(command)))))
  }

  async check(commands: readonly NftCommand[], wait: Wait): Promise<boolean> {
    wait.signal.throwIfAborted()
    try {
      this.#after(commands)
      return this.fault === undefined
    } catch {
      return false
    }
  }

  async read(table: string, wait: Wait): Promise<readonly NftObject[]> {
    wait.signal.throwIfAborted()
    this.#require()
    return [...this.#tables].filter(([key]) => key.endsWith(` ${table}`)).flatMap(([, objects]) => objects)
  }

  watch(table: string, onChange: () => void): AsyncDisposable {
    const watcher = { table, onChange }
    this.#watchers.add(watcher)
    return { [Symbol.asyncDispose]: async () => void this.#watchers.delete(watcher) }
  }

  /** As `nft flush ruleset` by somebody else. */
  flush(): void {
    const names = new Set([...this.#tables.keys()].map((key) => key.split(' ')[1] ?? ''))
    this.#tables = new Map()
    this.#tell(names)
  }

  /** As `nft flush set` by somebody else. */
  flushSet(table: string, name: string): void {
    const without = ([kind, fields]: [string, Readonly<Record<string, unknown>>]) =>
      [kind, fields.name === name ? { ...fields, elem: undefined } : fields] as const
    for (const [key, objects] of this.#tables)
      if (key === table)
        this.#tables.set(
          key,
          objects.map((object) => Object.fromEntries(Object.entries(object).map(without)))
        )
    this.#tell(new Set([table.split(' ')[1] ?? '']))
  }

  get tables(): readonly string[] {
    return [...this.#tables.keys()].sort()
  }

  #require(): void {
    if (this.fault !== undefined)
      throw new HostletError('E_UNAVAILABLE', `the network rules cannot be applied or read: ${this.fault}`)
  }

  #after(commands: readonly NftCommand[]): Map<string, NftObject[]> {
    const tables = new Map<string, NftObject[]>()
    for (const [key, objects] of this.#tables) tables.set(key, [...objects])
    for (const command of commands) {
      const [verb] = Object.keys(command)
      const object = objectOf(command)
      const key = `${Object.values(object)[0]?.family} ${nameOf(object)}`
      if (verb === 'add' && 'table' in object) tables.set(key, tables.get(key) ?? [object])
      else if (verb === 'delete' && 'table' in object && tables.has(key)) tables.delete(key)
      else if (verb === 'add' && tables.has(key)) add(tables.get(key) ?? [], object)
      else
        throw new HostletError(
          'E_UNAVAILABLE',
          `the network rules cannot be applied or read: no table ${key}`
        )
    }
    return tables
  }

  #tell(names: ReadonlySet<string>): void {
    for (const { table, onChange } of this.#watchers) if (names.has(table)) queueMicrotask(onChange)
  }
}

/** Elements lie in their set. */
function add(objects: NftObject[], object: NftObject): void {
  const { element } = object
  if (element === undefined) return void objects.push(object)
  const at = objects.findIndex(({ set, map }) => (set ?? map)?.name === element.name)
  const [kind, fields] = Object.entries(objects[at] ?? {})[0] ?? []
  if (kind === undefined)
    throw new HostletError(
      'E_UNAVAILABLE',
      `the network rules cannot be applied or read: no set ${element.name}`
    )
  objects[at] = { [kind]: { ...fields, elem: element.elem } }
}

function objectOf(command: NftCommand): NftObject {
  return Object.values(command)[0] ?? {}
}

function nameOf(object: NftObject): string {
  const { table, ...others } = object
  return String(table?.name ?? Object.values(others)[0]?.table)
}
