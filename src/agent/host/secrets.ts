// Keys of disks as libvirt's secrets: ephemeral and private, so that libvirt writes none to a disk and gives none back.

import {
  type Connection,
  connectListAllSecrets,
  errorCode,
  secretDefineXml,
  secretLookupByUuid,
  secretSetValue,
  secretUndefine
} from 'node-libvirt'
import type { ConnectionRole } from './connections.ts'
import type { Wait } from './hypervisor.ts'
import type { SecretRecord } from './inventory-port.ts'
import { attempt, orAbsent } from './libvirt-errors.ts'
import { uuidBytes, uuidText } from './uuid.ts'
import { element, renderXml } from './xml.ts'

export interface SecretDefinition {
  readonly id: string
  /** What it is for, in libvirt's books: no two secrets have the same. */
  readonly usage: string
  readonly passphrase: string
}

const quickMs = 10_000

export class Secrets {
  readonly #connection: (role: ConnectionRole) => Connection

  constructor({ connection }: { connection: (role: ConnectionRole) => Connection }) {
    this.#connection = connection
  }

  /** A second time with the same id gives it the value that is said last. */
  async define({ id, usage, passphrase }: SecretDefinition, wait: Wait): Promise<void> {
    const xml = renderXml(
      element(
        'secret',
        { ephemeral: 'yes', private: 'yes' },
        element('uuid', {}, id),
        element('usage', { type: 'volume' }, element('volume', {}, usage))
      )
    )
    await attempt('tell libvirt the key of a disk', async () => {
      const { secret } = await this.#control.call(secretDefineXml, { xml, flags: 0 }, quick(wait))
      const value = new TextEncoder().encode(passphrase)
      await this.#control.call(secretSetValue, { secret, value, flags: 0 }, quick(wait))
    })
  }

  /** Ids of secrets whose usage begins so. */
  async list(usagePrefix: string, wait: Wait): Promise<string[]> {
    return (await this.records(wait)).filter(({ usage }) => usage.startsWith(usagePrefix)).map(({ id }) => id)
  }

  /** All that libvirt has, whoever told it. */
  async records(wait: Wait): Promise<SecretRecord[]> {
    const args = { needResults: true, flags: 0 }
    const { secrets } = await attempt('list secrets', () =>
      this.#control.call(connectListAllSecrets, args, quick(wait))
    )
    return secrets.map(({ usageId, uuid }) => ({ id: uuidText(uuid), usage: usageId }))
  }

  /** No effect when there is none. */
  async remove(id: string, wait: Wait): Promise<void> {
    await orAbsent(errorCode.noSecret, 'have libvirt forget the key of a disk', async () => {
      const { secret } = await this.#control.call(secretLookupByUuid, { uuid: uuidBytes(id) }, quick(wait))
      await this.#control.call(secretUndefine, { secret }, quick(wait))
    })
  }

  get #control(): Connection {
    return this.#connection('control')
  }
}

function quick({ signal }: Wait): Wait & { deadlineMs: number } {
  return { signal, deadlineMs: quickMs }
}
