// Authorities and certificates of hosts for tests: at any time, of any trust domain.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger } from '../../../src/lib/log.ts'
import { Authority } from '../../../src/scheduler/identity/authority.ts'
import { createKeyPair, createRequest } from './test-agent.ts'

const dayMs = 86_400_000

/** An authority whose clock stands at `now`: the one of that directory, or a new one. */
export async function authorityIn(
  directory: string,
  now: number,
  trustDomain = 'hostlet.internal'
): Promise<Authority> {
  return Authority.open({
    directory,
    trustDomain,
    authorityMs: 3_650 * dayMs,
    serverMs: 90 * dayMs,
    hostMs: 7 * dayMs,
    clock: { now: () => now },
    log: silentLogger
  })
}

/** One of its own, which nobody trusts. */
export async function authorityAt(now: number): Promise<AsyncDisposable & { authority: Authority }> {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-authority-'))
  const authority = await authorityIn(directory, now)
  return {
    authority,
    [Symbol.asyncDispose]: async () => rmSync(directory, { recursive: true })
  }
}

export async function certificateOf(
  authority: Authority,
  host: string
): Promise<{ cert: string; key: string }> {
  const pair = await createKeyPair()
  const { certificatePem } = await authority.issueHostCertificate(await createRequest(pair), host)
  return { cert: certificatePem, key: pair.keyPem }
}
