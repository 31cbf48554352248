/** OwnedDomain: a domain of the test driver that carries hostlet's metadata, as if an agent had made it. */
import { randomUUID } from 'node:crypto'
import { type Connection, type Domain, domainDefineXml } from 'node-libvirt'
import { metadataElement } from '../../../src/agent/host/metadata.ts'
import { element, renderXml } from '../../../src/agent/host/xml.ts'

const mebibyte = 1024 ** 2

/** `pool` is that of the agent whose VM it is to be. Defined, not started. */
export async function defineOwnedDomain(
  connection: Connection,
  { name, pool, type = 'test' }: { name: string; pool: string; type?: string }
): Promise<Domain> {
  const uuid = randomUUID()
  const metadata = metadataElement({
    specification: {
      name,
      uuid,
      profile: 'starter',
      image: { url: 'https://images.test/a', sha256: 'a'.repeat(64), format: 'raw' },
      cpus: 1,
      memoryBytes: 64 * mebibyte,
      rootDiskBytes: mebibyte
    },
    placement: {
      uid: 1_950_000_000,
      macAddress: '52:00:00:00:00:01',
      address: '10.90.0.2',
      network: 'n',
      rootVolume: 'r',
      dataVolume: null
    },
    pool,
    generation: 1,
    wanted: 'stopped'
  })
  const xml = renderXml(
    element(
      'domain',
      { type },
      element('name', {}, name),
      element('uuid', {}, uuid),
      element('metadata', {}, metadata),
      element('memory', {}, '65536'),
      element('os', {}, element('type', {}, 'hvm'))
    )
  )
  const { domain } = await connection.call(domainDefineXml, { xml })
  return domain
}
