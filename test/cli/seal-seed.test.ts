// User data of a new VM, sealed by the command line: what the scheduler is asked then has none of it in plain text.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createPrivateKey, publicHalf } from '../../src/agent/keys/jwk.ts'
import type { ApiClient } from '../../src/cli/api-client.ts'
import type { Cli } from '../../src/cli/cli.ts'
import { sealSeed } from '../../src/cli/seal-seed.ts'
import type { CreateVmRequest } from '../../src/protocol/api.ts'
import { readSealedHeader } from '../../src/protocol/sealed-user-data.ts'
import type { SecretsKey } from '../../src/protocol/vm.ts'
import { hostFacts } from '../scheduler/support/samples.ts'

const userData = '#cloud-config\npassword: hunter2\n'

describe('user data on the command line', () => {
  it('is sealed where the host is named and tells its key', async () => {
    const key = publicHalf(await createPrivateKey())
    const asked: string[] = []
    const sealed = await sealSeed(request('kvm-1'), session(key, asked))
    assert.deepEqual(asked, ['/v1/hosts/kvm-1'])
    assert.ok(!JSON.stringify(sealed).includes('hunter2'))
    const { userDataJwe = '', ...seed } = sealed.specification.seed ?? {}
    assert.deepEqual(seed, { hostname: 'web' })
    const { kid, image } = readSealedHeader(userDataJwe)
    assert.deepEqual([kid, image], [key.kid, sealed.specification.image.sha256])
  })

  it('is left to the scheduler otherwise', async () => {
    const key = publicHalf(await createPrivateKey())
    const asked: string[] = []
    assert.deepEqual(await sealSeed(request(), session(key, asked)), request())
    assert.deepEqual(asked, [])
    assert.deepEqual(await sealSeed(request('kvm-1'), session(undefined, asked)), request('kvm-1'))
  })
})

function request(host?: string): CreateVmRequest {
  const image = { url: 'https://images.test/a', sha256: 'a'.repeat(64), format: 'raw' } as const
  const sizes = { cpus: 1, memoryBytes: 256 * 1024 ** 2, rootDiskBytes: 1024 ** 2 }
  const seed = { hostname: 'web', userData }
  return {
    specification: { name: 'web-1', profile: 'starter', image, ...sizes, seed },
    ...(host !== undefined && { host })
  }
}

function session(key: SecretsKey | undefined, asked: string[]) {
  const { secretsKey: _other, ...facts } = hostFacts('kvm-1')
  const ask = async ({ path }: { path: string }) => {
    asked.push(path)
    return { host: { facts: { ...facts, ...(key && { secretsKey: key }) } } }
  }
  return {
    cli: {} as Cli,
    client: { ask } as unknown as ApiClient,
    signal: AbortSignal.timeout(10_000)
  }
}
