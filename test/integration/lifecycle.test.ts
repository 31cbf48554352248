// The end of a real VM and the ways back: another image, one that never comes up, kept and had back, kept and erased, erased with its backups.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash, randomUUID, X509Certificate } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { compactVerify } from 'jose'
import { type BackupParts, backupPartsInMemory } from '../../src/agent/backups/backups.ts'
import { createPrivateKey, publicHalf } from '../../src/agent/keys/jwk.ts'
import { Retention } from '../../src/agent/lifecycle/retention.ts'
import { profileOf } from '../../src/agent/profiles.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { CommandResult } from '../../src/protocol/command.ts'
import type { EraseCertificate } from '../../src/protocol/lifecycle.ts'
import { carry, succeed } from '../agent/verbs/bench.ts'
import { connected, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import { TestAuthority, trustDomain } from '../support/test-authority.ts'
import {
  cannotProvision,
  guestPath,
  guestSpecification,
  hostOf,
  hypervisorOf,
  setupOf
} from './provision-host.ts'

const skip = await cannotProvision()
const target = 'main'

it('a real VM: reimaged, returned to its disk, kept, had back, erased', {
  skip,
  timeout: 1_800_000
}, async (t) => {
  await using stack = new AsyncDisposableStack()
  const fixture = await openLibvirtFixture()
  stack.defer(() => fixture.dispose())
  const { directory, network } = fixture
  const images = join(directory, 'images')
  mkdirSync(images)
  const repository = join(directory, 'repository')
  mkdirSync(repository, { mode: 0o700 })
  mkdirSync(join(directory, 'policy'), { mode: 0o700 })
  const policy = join(directory, 'policy', 'policy.yaml')
  const repositories = { [target]: { url: pathToFileURL(repository).href } }
  const recovery = [{ jwk: publicHalf(await createPrivateKey()) }]
  writeFileSync(policy, JSON.stringify({ repositories, recovery }), { mode: 0o600 })
  const authority = await TestAuthority.create()
  const { cert: certificate, key } = await authority.issue({ uris: [`spiffe://${trustDomain}/host/host-1`] })
  const identity = { certificate, key, caCertificate: authority.certificate, trustDomain }
  const parts: BackupParts = { ...backupPartsInMemory(), instance: randomUUID(), identity: () => identity }
  const setup = setupOf(fixture)
  const { name, bridge, subnet } = network
  const { allowFileUrls, ...imageConfig } = setup.config.images
  const config = {
    ...setup.config,
    profiles: { starter: profileOf({ network: name, bridge, subnet, encryption: true }) },
    images: { ...imageConfig, allowFileUrls: [...allowFileUrls, images] },
    backup: { policy, compressionLevel: 1, freezeMs: 1_000 },
    readyTimeoutMs: 300_000,
    retainDayMs: 1_000
  }
  const hypervisor = hypervisorOf(setup)
  stack.defer(() => hypervisor.close())
  await connected(hypervisor)
  const host = await hostOf(hypervisor, { ...setup, config }, parts)
  stack.defer(() => host.close())

  const imageOf = (path: string, format: 'qcow2' | 'raw') => {
    const sha256 = createHash('sha256').update(readFileSync(path)).digest('hex')
    return { url: `file://${path}`, sha256, format } as const
  }
  const variant = join(images, 'variant.qcow2')
  execFileSync('qemu-img', ['convert', '-O', 'qcow2', '-o', 'cluster_size=128k', guestPath, variant])
  const blank = join(images, 'blank.img')
  writeFileSync(blank, Buffer.alloc(1024 ** 2))

  const uuid = randomUUID()
  const vm = `${fixture.prefix}-life`
  let generation = 0
  const about = () => ({ subject: { vm, uuid, generation: ++generation } })
  const wait = () => ({ signal: AbortSignal.timeout(60_000) })
  const recordOf = async () => {
    const record = await hypervisor.findVm(vm, wait())
    assert.ok(record)
    return record
  }
  const verified = async (text: unknown): Promise<EraseCertificate> => {
    const jws = String(text)
    const header = JSON.parse(Buffer.from(jws.split('.')[0] ?? '', 'base64url').toString())
    const leaf = new X509Certificate(Buffer.from(header.x5c[0], 'base64'))
    assert.ok(leaf.verify(new X509Certificate(authority.certificate).publicKey))
    const { payload, protectedHeader } = await compactVerify(jws, leaf.publicKey)
    assert.equal(protectedHeader.typ, 'hostlet-erase+jwt')
    return JSON.parse(Buffer.from(payload).toString())
  }

  const specification = guestSpecification({ name: vm, uuid, dataDiskBytes: 1024 ** 2 })
  await succeed(host, 'vm.provision', { specification }, about())
  await succeed(host, 'vm.backup', { vm, target })
  const before = await recordOf()
  t.diagnostic('provisioned and backed up')

  const image = imageOf(variant, 'qcow2')
  await succeed(host, 'vm.reimage', { vm, image }, about())
  const reimaged = await recordOf()
  assert.notEqual(reimaged.placement.rootVolume, before.placement.rootVolume)
  assert.notEqual(reimaged.placement.rootKey, before.placement.rootKey)
  const { rootVolume: _new, rootKey: _newKey, ...kept } = reimaged.placement
  const { rootVolume: _old, rootKey: _oldKey, ...keptBefore } = before.placement
  assert.deepEqual(kept, keptBefore)
  assert.equal(await hypervisor.findVolume(before.placement.rootVolume, wait()), undefined)
  assert.ok(!host.keys.disks.listOf(uuid).some(({ id }) => id === before.placement.rootKey))
  t.diagnostic('reimaged')

  const next = (await succeed(host, 'vm.backup', { vm, target })) as {
    record: { kind: string; reason?: string }
  }
  assert.notEqual(next.record.kind, 'incremental')
  assert.ok(next.record.reason)
  t.diagnostic(`next backup: ${next.record.kind}, ${next.record.reason}`)

  const failed = await carry(
    host,
    'vm.reimage',
    { vm, image: imageOf(blank, 'raw'), readyWithinMs: 15_000 },
    about()
  )
  assert.equal(failed.outcome === 'failed' && failed.error.code, 'E_UNAVAILABLE', JSON.stringify(failed))
  const returned = await recordOf()
  assert.deepEqual(returned.placement, reimaged.placement)
  assert.equal(returned.state, 'running')
  assert.equal(host.keys.disks.listOf(uuid).length, 2)
  t.diagnostic('returned to its root disk')

  await succeed(host, 'vm.teardown', { vm, retainDays: 3_650 }, about())
  await assert.rejects(hypervisor.start(vm, wait()), { code: 'E_CONFLICT' })
  await succeed(host, 'vm.undelete', { vm }, about())
  const back = await recordOf()
  assert.deepEqual([back.state, back.placement, back.retained], ['running', reimaged.placement, undefined])
  t.diagnostic('kept and had back')

  const texts = filesIn(join(directory, 'state', 'keys')).map(
    (path) => JSON.parse(readFileSync(path, 'utf8')).wrapped as string
  )
  assert.ok(texts.length >= 2)
  assert.ok(filesIn(repository).some((path) => path.includes(uuid)))
  await succeed(host, 'vm.teardown', { vm, retainDays: 2, backups: true }, about())
  const ended = Promise.withResolvers<CommandResult>()
  await using retention = new Retention({
    vms: (waiting) => hypervisor.listVms(waiting),
    readiness: { isReady: () => true },
    operations: {
      localOperations: () => [],
      begin: async ({ verb, subject, arguments: args }) => {
        const outcome = carry(host, verb, args, { subject })
        const done = outcome.then(
          (end) => ({ command: randomUUID(), startedAt: 0, finishedAt: 0, ...end }) as CommandResult
        )
        done.then(ended.resolve, ended.reject)
        return { id: randomUUID(), verb, subject, arguments: args, ended: done }
      }
    },
    clock: systemClock,
    log: silentLogger
  })
  retention.begin()
  const result = await ended.promise
  assert.equal(result.outcome, 'done', JSON.stringify(result))
  const claims = await verified(result.value?.certificate)
  assert.deepEqual(
    claims.keys.map(({ outcome }) => outcome),
    ['destroyed', 'destroyed']
  )
  assert.ok(
    claims.volumes.every(({ encrypted, outcome }) => encrypted && outcome === 'removed'),
    JSON.stringify(claims.volumes)
  )
  assert.deepEqual(
    [claims.backups.erased.length, claims.backups.remaining, claims.backups.unknown],
    [2, [], []]
  )
  assert.equal(await hypervisor.findVm(vm, wait()), undefined)
  assert.deepEqual(
    (await hypervisor.listVolumes(wait())).filter(({ name: volume }) => volume.startsWith(vm)),
    []
  )
  assert.deepEqual(
    filesIn(repository).filter((path) => path.includes(uuid)),
    []
  )
  for (const path of filesIn(directory)) {
    const content = readFileSync(path)
    for (const text of texts) assert.ok(!content.includes(text), path)
  }
})

function filesIn(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((name) => join(directory, name))
    .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true)
}
