// User data on its way through the scheduler: encrypted for the chosen host, and in plain text nowhere.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { compactDecrypt, importJWK } from 'jose'
import { createPrivateKey, publicHalf } from '../../src/agent/keys/jwk.ts'
import type { OperationReply, VmReply } from '../../src/protocol/api.ts'
import { readSealedHeader, sealUserData } from '../../src/protocol/sealed-user-data.ts'
import type { VmSpecification } from '../../src/protocol/vm.ts'
import { gibibyte, hostFacts, hostKey, specification } from './support/samples.ts'
import type { TestAgent } from './support/test-agent.ts'
import { TestScheduler } from './support/test-scheduler.ts'

const secret = 'hunter2-hunter2'
const userData = `#cloud-config\npassword: ${secret}\n`
const image = 'a'.repeat(64)

describe('user data of a new VM', { timeout: 60_000 }, () => {
  let scheduler: TestScheduler
  let agent: TestAgent

  beforeEach(async () => {
    scheduler = await TestScheduler.start()
    agent = await scheduler.enroll()
    await agent.connect()
    agent.sendInventory()
    await agent.sync()
  })
  afterEach(() => scheduler[Symbol.asyncDispose]())

  async function create(seed: Record<string, unknown>, rest: Record<string, unknown> = {}, key?: string) {
    const headers = key === undefined ? {} : { 'idempotency-key': key }
    const body = { specification: specification({ seed }), ...rest }
    return (await scheduler.api.post<OperationReply>('/v1/vms', body, { headers })).operation
  }

  const failure = (seed: Record<string, unknown>, rest: Record<string, unknown> = {}) =>
    scheduler.api.failure({
      method: 'POST',
      path: '/v1/vms',
      json: { specification: specification({ seed }), ...rest }
    })

  async function nextSpecification(): Promise<VmSpecification> {
    return (await agent.nextCommand()).claims.arguments.specification as VmSpecification
  }

  it('reaches its host as it was, which alone can read it', async () => {
    await create({ hostname: 'web', userData })
    const sent = await nextSpecification()
    assert.equal(sent.seed?.hostname, 'web')
    assert.ok(!JSON.stringify(sent).includes(secret))
    const { plaintext } = await compactDecrypt(
      sent.seed?.userData ?? '',
      await importJWK({ ...hostKey }, 'ECDH-ES+A256KW')
    )
    assert.equal(new TextDecoder().decode(plaintext), userData)
    const { vm, image: imageDigest } = readSealedHeader(sent.seed?.userData ?? '')
    assert.deepEqual([vm, imageDigest], [sent.uuid, image])
  })

  it('is in no file, log or answer of the scheduler: not while it waits, not when it has ended', async () => {
    const { id } = await create({ userData }, {}, 'deploy-1')
    const told = async () =>
      JSON.stringify([
        await scheduler.api.get<OperationReply>(`/v1/operations/${id}`),
        await scheduler.api.get<VmReply>('/v1/vms/web-1')
      ])
    const places = async () => [
      ...stored(scheduler.directory),
      scheduler.log.text(),
      await told(),
      Buffer.from((await agent.nextCommand()).jws.split('.')[1] ?? '', 'base64url').toString()
    ]
    for (const text of await places()) assert.ok(!text.includes(secret))
    agent.finish(id)
    await agent.sync()
    for (const text of [...stored(scheduler.directory), scheduler.log.text(), await told()])
      assert.ok(!text.includes(secret))
  })

  it('that was sealed by the asker goes on unchanged, with the UUID that it was sealed for', async () => {
    const uuid = randomUUID()
    const userDataJwe = await sealUserData(userData, publicHalf(hostKey), { vm: uuid, image })
    const { host } = await create({ userDataJwe }, { host: 'kvm-1' })
    assert.equal(host, 'kvm-1')
    const sent = await nextSpecification()
    assert.equal(sent.uuid, uuid)
    assert.deepEqual(sent.seed, { userData: userDataJwe })
  })

  it('that was sealed is refused without its host, beside a plain one, for another key, and where it is none', async () => {
    const sealed = async (key = hostKey) =>
      sealUserData(userData, publicHalf(key), { vm: randomUUID(), image })
    const named = { host: 'kvm-1' }
    const userDataJwe = await sealed()
    const cases = [
      ['E_BAD_REQUEST', await failure({ userDataJwe })],
      ['E_BAD_REQUEST', await failure({ userDataJwe, userData }, named)],
      ['E_STALE', await failure({ userDataJwe: await sealed(await createPrivateKey()) }, named)],
      ['E_BAD_REQUEST', await failure({ userDataJwe: userData }, named)]
    ] as const
    for (const [code, told] of cases) {
      assert.equal(told.code, code, told.message)
      assert.ok(!told.message.includes(secret))
    }
    assert.equal(readSealedHeader(userDataJwe).kid, hostKey.kid)
  })

  it('is not taken for a host that tells no key, and goes to one that does', async () => {
    const { secretsKey: _none, ...old } = hostFacts(agent.id, 64 * gibibyte)
    agent.sendInventory({ facts: old })
    await agent.sync()
    for (const rest of [{}, { host: 'kvm-1' }]) {
      const told = await failure({ userData }, rest)
      assert.equal(told.code, 'E_UNSUPPORTED')
      assert.match(told.message, /host kvm-1 tells no key.*Upgrade/)
    }
    const other = await scheduler.enroll('kvm-2')
    await other.connect()
    other.sendInventory({ facts: hostFacts(other.id, 8 * gibibyte) })
    await other.sync()
    assert.equal((await create({ userData })).host, 'kvm-2')
  })

  it('that is too long is refused, and not repeated', async () => {
    for (const text of [secret.repeat(5_000), 'ü'.repeat(40_000) + secret]) {
      const told = await failure({ userData: text })
      assert.equal(told.code, 'E_BAD_REQUEST')
      assert.ok(!told.message.includes(secret))
    }
  })

  it('has no part in what an Idempotency-Key remembers', async () => {
    const first = await create({ userData }, {}, 'deploy-2')
    assert.equal((await create({ userData: 'other' }, {}, 'deploy-2')).id, first.id)
  })
})

/** Everything that lies in the scheduler's directory, its databases and their logs included. */
function stored(directory: string): string[] {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((file) =>
    file.isFile()
  )
  return files.map(({ parentPath, name }) => readFileSync(join(parentPath, name), 'latin1'))
}
