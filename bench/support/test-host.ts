// A host of libvirt's test driver with as many running domains as wanted: no QEMU, no privileges, nothing left behind.

import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface TestHost extends Disposable {
  /** For a client that speaks to libvirtd by itself. */
  readonly uri: string
  /** For libvirt's own library, which otherwise runs the test driver inside the calling process, without any libvirtd. */
  readonly daemonUri: string
}

/** libvirtd reads the file anew for every connection, so each has a host of its own. */
export function testHost(domains: number): TestHost {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-bench-'))
  const file = join(directory, 'host.xml')
  writeFileSync(file, hostXml(domains))
  return {
    uri: `test://${file}`,
    daemonUri: `test+unix://${file}`,
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true })
  }
}

function hostXml(domains: number): string {
  return `<node>\n${Array.from({ length: domains }, (_, index) => domainXml(`vm-${index}`)).join('\n')}\n</node>\n`
}

function domainXml(name: string): string {
  return `<domain type='test'><name>${name}</name><uuid>${randomBytes(16).toString('hex')}</uuid>
<memory unit='MiB'>512</memory><vcpu>2</vcpu><os><type>hvm</type></os></domain>`
}
