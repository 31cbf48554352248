// All domains of libvirt with whose they are, and what each has of the host.

import {
  type Connection,
  connectListAllDomains,
  type Domain,
  domainGetMetadata,
  domainGetXmlDesc,
  domainXmlFlag,
  errorCode,
  metadataType,
  modificationImpact
} from 'node-libvirt'
import type { ConnectionRole } from './connections.ts'
import { noUses, usesIn } from './domain-uses.ts'
import type { Wait } from './hypervisor.ts'
import type { DomainUse } from './inventory-port.ts'
import { attempt, fromLibvirt, isAnswer, orAbsent } from './libvirt-errors.ts'
import { metadataNamespace } from './names.ts'
import { judge, type Look, lookAt, type SeenDomain } from './quarantine.ts'
import { uuidText } from './uuid.ts'

export interface DomainLooksOptions {
  readonly connection: (role: ConnectionRole) => Connection
  /** Name of our pool: VMs of another pool are another agent's, and as foreign as any. */
  readonly pool: string
}

export interface LookedAt {
  readonly domain: Domain
  readonly look: Look
}

const quickMs = 10_000
/** One domain that does not answer keeps the others waiting no longer. */
const xmlMs = 5_000

export class DomainLooks {
  readonly #options: DomainLooksOptions
  /** Domains of ours by UUID, to tell whose an event is after the domain is gone. */
  readonly #ours = new Set<string>()
  /** Known to be no VM beside the others, though each looks like one by itself. */
  #quarantined: ReadonlyMap<string, Look> = new Map()

  constructor(options: DomainLooksOptions) {
    this.#options = options
  }

  isOurs(uuid: string): boolean {
    return this.#ours.has(uuid)
  }

  noteOurs(uuid: string): void {
    this.#ours.add(uuid)
  }

  forget(uuid: string): void {
    this.#ours.delete(uuid)
  }

  /** Every domain, beside the others. Those that are gone meanwhile are left out. */
  async all(doing: string, wait: Wait): Promise<readonly LookedAt[]> {
    return (await this.#seen(doing, wait)).map(({ domain, look }) => ({ domain, look }))
  }

  /** One domain, with what is known of it beside the others. Undefined when it is gone. */
  async one(domain: Domain, wait: Wait): Promise<Look | undefined> {
    const seen = await this.#see(domain, wait)
    if (seen === undefined) return undefined
    const look = lookAt(seen, this.#options.pool)
    if (look.kind !== 'ours') return look
    const known = this.#quarantined.get(seen.uuid)
    if (known !== undefined) return known
    this.#ours.add(seen.uuid)
    return look
  }

  /** Whether an unknown domain is a VM of ours, beside the others. */
  async recognise(domain: Domain, wait: Wait): Promise<boolean> {
    const uuid = uuidText(domain.uuid)
    if (this.#ours.has(uuid)) return true
    const seen = await this.#see(domain, wait)
    if (seen === undefined || lookAt(seen, this.#options.pool).kind !== 'ours') return false
    await this.all('look at a new domain', wait)
    return this.#ours.has(uuid)
  }

  async uses(wait: Wait, only?: 'foreign'): Promise<readonly DomainUse[]> {
    const all = await this.#seen('list what domains use', wait)
    const wanted = only === undefined ? all : all.filter(({ look }) => look.kind === 'foreign')
    return await Promise.all(wanted.map((each) => this.#use(each, wait)))
  }

  async #use({ domain, seen, look }: LookedAt & { seen: SeenDomain }, wait: Wait): Promise<DomainUse> {
    const owner = look.kind === 'foreign' ? look.reason : look.kind
    const about = { name: domain.name, uuid: seen.uuid, owner }
    try {
      const xmls = await Promise.all([
        this.#xml(domain, domainXmlFlag.inactive, wait),
        ...(seen.run === null ? [] : [this.#xml(domain, 0, wait)])
      ])
      return { ...about, complete: true, ...usesIn(xmls, seen.metadata) }
    } catch (error) {
      wait.signal.throwIfAborted()
      const { code } = fromLibvirt(error, 'look')
      if (code === 'E_UNAVAILABLE' || code === 'E_INTERRUPTED') throw error
      return { ...about, complete: false, ...noUses, ...usesIn([], seen.metadata) }
    }
  }

  async #xml(domain: Domain, flags: number, wait: Wait): Promise<string> {
    const options = { signal: wait.signal, deadlineMs: xmlMs }
    const connection = this.#options.connection('jobs')
    return (await connection.call(domainGetXmlDesc, { domain, flags }, options)).xml
  }

  async #seen(doing: string, wait: Wait): Promise<readonly (LookedAt & { seen: SeenDomain })[]> {
    const args = { needResults: true, flags: 0 }
    const { domains } = await attempt(doing, () =>
      this.#control.call(connectListAllDomains, args, quick(wait))
    )
    const pairs = await Promise.all(
      domains.map(async (domain) => ({ domain, seen: await this.#see(domain, wait) }))
    )
    const there = pairs.flatMap(({ domain, seen }) => (seen === undefined ? [] : [{ domain, seen }]))
    const looks = this.#judge(there.map(({ seen }) => seen))
    return there.flatMap(({ domain, seen }) => {
      const look = looks.get(seen.uuid)
      return look === undefined ? [] : [{ domain, seen, look }]
    })
  }

  #judge(seen: readonly SeenDomain[]): ReadonlyMap<string, Look> {
    const looks = judge(seen, { pool: this.#options.pool, known: this.#ours })
    this.#quarantined = new Map([...looks].filter(([, { kind }]) => kind === 'foreign'))
    for (const [uuid, { kind }] of looks) {
      if (kind === 'ours') this.#ours.add(uuid)
      else this.#ours.delete(uuid)
    }
    return looks
  }

  async #see(domain: Domain, wait: Wait): Promise<SeenDomain | undefined> {
    const metadata = await orAbsent(errorCode.noDomain, `look at domain ${domain.name}`, () =>
      this.#metadata(domain, wait)
    )
    if (metadata === undefined) return undefined
    return { name: domain.name, uuid: uuidText(domain.uuid), run: runOf(domain), metadata }
  }

  /** Our element in a domain's metadata, null where there is none. */
  async #metadata(domain: Domain, wait: Wait): Promise<string | null> {
    const read = async (flags: number) => {
      const args = { domain, type: metadataType.element, uri: metadataNamespace, flags }
      return (await this.#control.call(domainGetMetadata, args, quick(wait))).metadata
    }
    try {
      return await read(modificationImpact.config)
    } catch (error) {
      if (isAnswer(error, errorCode.noDomainMetadata)) return null
      // A transient domain has no definition to read from.
      if (!isAnswer(error, errorCode.operationInvalid)) throw error
    }
    return (
      (await orAbsent(errorCode.noDomainMetadata, 'read metadata', () => read(modificationImpact.live))) ??
      null
    )
  }

  get #control(): Connection {
    return this.#options.connection('control')
  }
}

/** libvirt numbers the runs of machines of this boot; one that is off has none. */
export function runOf({ id }: Pick<Domain, 'id'>): number | null {
  return id > 0 ? id : null
}

function quick(wait: Wait): Wait & { deadlineMs: number } {
  return { signal: wait.signal, deadlineMs: quickMs }
}
