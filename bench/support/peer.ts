// The compiled libvirt client that bench compares with: installed apart by scripts/bench.sh, so it may be missing.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { NotRun } from '../harness.ts'

const packageDirectory = join(import.meta.dirname, '../node_modules/@unraid/libvirt')
/** Written by scripts/bench.sh where the package could not be installed or compiled. */
const failureFile = join(import.meta.dirname, '../results/peer-failure.txt')

/** Opaque: only handed back to the package. */
export type PeerDomain = object

export interface PeerHypervisor {
  connectOpen(): Promise<void>
  connectClose(): Promise<void>
  connectGetMaxVcpus(): Promise<number>
  connectListAllDomains(): Promise<PeerDomain[]>
  domainGetInfo(domain: PeerDomain): Promise<{ readonly state: number }>
}

export async function openPeer(uri: string): Promise<PeerHypervisor & AsyncDisposable> {
  if (!existsSync(join(packageDirectory, 'build/Release/libvirt.node'))) throw new NotRun(whyMissing())
  const entry = pathToFileURL(join(packageDirectory, 'dist/index.js')).href
  const { Hypervisor } = (await import(entry)) as {
    Hypervisor: new (options: { uri: string }) => PeerHypervisor
  }
  const hypervisor = new Hypervisor({ uri })
  await hypervisor.connectOpen()
  return Object.assign(hypervisor, { [Symbol.asyncDispose]: () => hypervisor.connectClose() })
}

function whyMissing(): string {
  const reason = existsSync(failureFile)
    ? readFileSync(failureFile, 'utf8').trim()
    : 'run it by "npm run bench"'
  return `@unraid/libvirt is not compiled here: ${reason}`
}
