// What @peculiar/x509 asks of the Reflect object before it loads: import this file above it.

type Key = unknown
type Entries = Map<Key, unknown>

const ownEntries = new WeakMap<object, Entries>()

function getOwnMetadata(key: Key, target: object): unknown {
  return ownEntries.get(target)?.get(key)
}

/** The target's own entry, or the nearest one of its prototypes. */
function getMetadata(key: Key, target: object): unknown {
  for (let holder: object | null = target; holder !== null; holder = Object.getPrototypeOf(holder)) {
    const entries = ownEntries.get(holder)
    if (entries?.has(key)) return entries.get(key)
  }
  return undefined
}

function defineMetadata(key: Key, value: unknown, target: object): void {
  const entries: Entries = ownEntries.get(target) ?? new Map()
  entries.set(key, value)
  ownEntries.set(target, entries)
}

const additions = { getOwnMetadata, getMetadata, defineMetadata }
/** A fuller implementation that is there already stays. */
for (const [name, value] of Object.entries(additions))
  if (!(name in Reflect)) Object.defineProperty(Reflect, name, { value, configurable: true, writable: true })
