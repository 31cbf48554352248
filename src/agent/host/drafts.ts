// Drafts of libvirt's definitions: reads the one that there is, and writes none.

import { type Connection, domainGetXmlDesc, domainXmlFlag } from 'node-libvirt'
import type { ConnectionRole } from './connections.ts'
import type { DomainEnvironment } from './domain-xml.ts'
import type { Domains } from './domains.ts'
import { changedDraft, newDraft, removalDraft } from './draft.ts'
import type { Wait } from './hypervisor.ts'
import { attempt } from './libvirt-errors.ts'
import type { Draft, DraftChange } from './plan-port.ts'

const quickMs = 10_000

export interface DraftsOptions {
  readonly connection: (role: ConnectionRole) => Connection
  readonly domains: Pick<Domains, 'require'>
  readonly environment: (wait: Wait) => Promise<DomainEnvironment>
}

export class Drafts {
  readonly #options: DraftsOptions

  constructor(options: DraftsOptions) {
    this.#options = options
  }

  readonly draft = async (change: DraftChange, wait: Wait): Promise<Draft> => {
    const { domains, environment, connection } = this.#options
    if (change.kind === 'new') return newDraft(change, await environment(wait))
    const { domain, metadata } = await domains.require(change.name, wait)
    const { xml } = await attempt(`read the definition of VM ${change.name}`, () =>
      connection('jobs').call(
        domainGetXmlDesc,
        { domain, flags: domainXmlFlag.inactive },
        { signal: wait.signal, deadlineMs: quickMs }
      )
    )
    if (change.kind === 'removal') return removalDraft(xml)
    return changedDraft(xml, metadata, change, await environment(wait))
  }
}
