// vm.reimage on the hypervisor in memory: what changes, what stays, what comes back, and what a crash leaves.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { VmRecord } from '../../../src/agent/host/hypervisor.ts'
import type { VmSpecification } from '../../../src/protocol/vm.ts'
import { withUserData } from '../../support/sealed-seed.ts'
import { type Bench, begin, carry, makeBench, succeed } from './bench.ts'
import { interposed } from './interposed.ts'

const vm = 'web-1'
const wait = () => ({ signal: AbortSignal.timeout(30_000) })
const seed = { hostname: 'shop', sshAuthorizedKeys: ['ssh-ed25519 AAAA me'] }

describe('vm.reimage', () => {
  it('gives the VM a root disk of the other image, and keeps data disk, address, user and size', async () => {
    await using bench = await provisioned()
    const before = await recordOf(bench)
    const image = await otherImage(bench)
    const value = await succeed(bench.host, 'vm.reimage', { vm, image })
    const after = await recordOf(bench)
    const { rootVolume, ...kept } = after.placement
    const { rootVolume: oldVolume, ...keptBefore } = before.placement
    assert.deepEqual(kept, keptBefore)
    assert.notEqual(rootVolume, oldVolume)
    assert.deepEqual([value.rootDisk, value.image], [rootVolume, image])
    assert.deepEqual(after.specification, { ...before.specification, image })
    assert.deepEqual([after.state, after.wanted], ['running', 'running'])
    await checkNothingElse(bench, after)
    assert.ok(bench.hypervisor.calls.includes(`createOverlay ${rootVolume}`))
  })

  it('removes the old root disk only once the VM is ready with the new one', async () => {
    let seen: string[] = []
    let look = async () => {}
    const answer = () => look().then(() => true)
    await using bench = await provisioned({ probes: { tcp: answer, http: answer } })
    const oldVolume = (await recordOf(bench)).placement.rootVolume
    look = async () => {
      seen = (await bench.hypervisor.listVolumes(wait())).map(({ name }) => name)
    }
    await succeed(bench.host, 'vm.reimage', { vm, image: await otherImage(bench) })
    assert.ok(seen.includes(oldVolume))
    assert.equal(await bench.hypervisor.findVolume(oldVolume, wait()), undefined)
  })

  it('does not take the address that the old root disk had for a sign that the new one is up', async () => {
    await using bench = await provisioned({ specification: { ready: { timeoutMs: 300 } } })
    bench.hypervisor.guests.takesLease = false
    const before = await recordOf(bench)
    const outcome = await carry(bench.host, 'vm.reimage', { vm, image: await otherImage(bench) })
    assert.equal(outcome.outcome === 'failed' && outcome.error.code, 'E_UNAVAILABLE')
    assert.equal((await recordOf(bench)).placement.rootVolume, before.placement.rootVolume)
  })

  it('brings the old root disk back when the VM is not ready in time, and leaves nothing of the new one', async () => {
    let answers = true
    const answer = async () => answers
    await using bench = await provisioned({ probes: { tcp: answer, http: answer } })
    const before = await recordOf(bench)
    answers = false
    const args = { vm, image: await otherImage(bench), readyWithinMs: 200, seed }
    const outcome = await carry(bench.host, 'vm.reimage', args)
    assert.equal(outcome.outcome === 'failed' && outcome.error.code, 'E_UNAVAILABLE')
    const after = await recordOf(bench)
    assert.deepEqual(after.specification, before.specification)
    assert.deepEqual(after.placement, before.placement)
    assert.deepEqual([after.state, after.wanted], ['running', 'running'])
    await checkNothingElse(bench, before)
  })

  it('leaves a VM off that was off when it fails, and has it run when it succeeds', async () => {
    let answers = true
    const answer = async () => answers
    await using bench = await provisioned({ probes: { tcp: answer, http: answer } })
    await succeed(bench.host, 'vm.stop', { vm })
    const image = await otherImage(bench)
    answers = false
    await carry(bench.host, 'vm.reimage', { vm, image, readyWithinMs: 200 })
    const failed = await recordOf(bench)
    assert.deepEqual([failed.state, failed.wanted], ['stopped', 'stopped'])
    answers = true
    await succeed(bench.host, 'vm.reimage', { vm, image })
    const done = await recordOf(bench)
    assert.deepEqual([done.state, done.wanted], ['running', 'running'])
  })

  it('writes the seed anew, with what the command says besides, and keeps no user data', async () => {
    let written = Buffer.alloc(0)
    let look = async () => {}
    const answer = () => look().then(() => true)
    await using bench = await provisioned({
      specification: { seed: { hostname: 'old', sshAuthorizedKeys: ['ssh-ed25519 BBBB you'] } },
      probes: { tcp: answer, http: answer }
    })
    look = async () => {
      const [name = ''] = await readdir(join(bench.directory, 'run', 'seeds'))
      written = await readFile(join(bench.directory, 'run', 'seeds', name))
    }
    const image = await otherImage(bench)
    const { uuid } = bench.specification()
    const key = bench.host.keys.hostKey.publicKey
    const run = begin(bench.host, 'vm.reimage', {
      vm,
      image,
      seed: (await withUserData({ uuid, image }, '#cloud-config\nsecret', key)).seed
    })
    assert.equal((await run.outcome).outcome, 'done')
    assert.ok(written.includes('secret') && written.includes('local-hostname: "old"'))
    const { specification } = await recordOf(bench)
    assert.deepEqual(specification.seed, {
      hostname: 'old',
      sshAuthorizedKeys: ['ssh-ed25519 BBBB you'],
      hardened: false
    })
    assert.ok(!JSON.stringify(run.journal.entry.notes).includes('secret'))
  })

  it('refuses an image that does not fit, before the VM is touched', async () => {
    await using bench = await provisioned()
    const image = await otherImage(bench, 4 * 1024 ** 2)
    const calls = bench.hypervisor.calls.length
    const outcome = await carry(bench.host, 'vm.reimage', { vm, image })
    assert.equal(outcome.outcome === 'failed' && outcome.error.code, 'E_BAD_REQUEST')
    assert.ok(!bench.hypervisor.calls.slice(calls).some((call) => call.startsWith('pressPowerButton')))
    assert.equal((await recordOf(bench)).state, 'running')
  })

  it('refuses a VM that is not there, and a stale command', async () => {
    await using bench = await provisioned()
    const { generation, specification } = await recordOf(bench)
    const image = await otherImage(bench)
    const stale = { vm, uuid: specification.uuid, generation }
    const refused = await carry(bench.host, 'vm.reimage', { vm, image }, { subject: stale })
    assert.equal(refused.outcome === 'failed' && refused.error.code, 'E_STALE')
    const absent = await carry(bench.host, 'vm.reimage', { vm: 'web-2', image })
    assert.equal(absent.outcome === 'failed' && absent.error.code, 'E_NOT_FOUND')
  })
})

for (const ready of [true, false])
  it(`ends as if there had been no crash at any call to the hypervisor, where the VM is ${ready ? '' : 'not '}ready`, async () => {
    const calls = await runKilled(ready, { at: Number.POSITIVE_INFINITY, when: 'before' })
    assert.ok(calls > 15, `${calls} calls`)
    for (let at = 1; at <= calls; at++)
      for (const when of ['before', 'after'] as const) await runKilled(ready, { at, when })
  })

/** Killed at one call, resumed, and looked at. Returns the number of calls. */
async function runKilled(
  ready: boolean,
  { at, when }: { at: number; when: 'before' | 'after' }
): Promise<number> {
  let answers = true
  const answer = async () => answers
  await using bench = await provisioned({
    probes: { tcp: answer, http: answer },
    config: { stop: { graceMs: 0 } }
  })
  const before = await recordOf(bench)
  const image = await otherImage(bench)
  answers = ready
  const killed = Promise.withResolvers<void>()
  let calls = 0
  const hypervisor = interposed(bench.hypervisor, async (call) => {
    if (++calls < at) return await call()
    if (calls === at && when === 'after') await call()
    killed.resolve()
    return await new Promise(() => undefined)
  })
  const args = { vm, image, readyWithinMs: ready ? 30_000 : 50 }
  const { journal, outcome } = begin(bench.restarted(hypervisor), 'vm.reimage', args)
  await Promise.race([killed.promise, outcome])
  const about = `killed ${when} call ${at}`
  if (journal.entry.attempts > 0) {
    const end =
      at === Number.POSITIVE_INFINITY
        ? await outcome
        : await begin(bench.restarted(), 'vm.reimage', args, { from: journal }).outcome
    assert.equal(end.outcome, ready ? 'done' : 'failed', `${about}: ${JSON.stringify(end)}`)
    const after = await recordOf(bench)
    if (ready) assert.notEqual(after.placement.rootVolume, before.placement.rootVolume, about)
    else assert.deepEqual(after.placement, before.placement, about)
    assert.deepEqual([after.state, after.wanted], ['running', 'running'], about)
    await checkNothingElse(bench, after, about)
  }
  return calls
}

async function provisioned(
  options: Parameters<typeof makeBench>[0] & { specification?: Partial<VmSpecification> } = {}
): Promise<Bench> {
  const { specification, ...rest } = options
  const bench = await makeBench(rest)
  await bench.host.prepare()
  const wanted = { dataDiskBytes: 1024 ** 2, ready: { tcpPort: 22 }, ...specification }
  await succeed(bench.host, 'vm.provision', { specification: bench.specification(wanted) })
  return bench
}

async function otherImage(bench: Bench, bytes = 32 * 1024): Promise<VmSpecification['image']> {
  const content = Buffer.alloc(bytes, 'another ')
  const path = join(bench.directory, 'images', `other-${bytes}.img`)
  await writeFile(path, content)
  return { url: `file://${path}`, sha256: createHash('sha256').update(content).digest('hex'), format: 'raw' }
}

async function recordOf(bench: Bench): Promise<VmRecord> {
  const record = await bench.hypervisor.findVm(vm, wait())
  assert.ok(record)
  return record
}

/** Of this VM its two disks, its address and its definition are there, and nothing else. */
async function checkNothingElse(bench: Bench, { placement }: VmRecord, about = ''): Promise<void> {
  const expected = [
    `vm ${vm}`,
    `volume ${placement.rootVolume}`,
    `volume ${placement.dataVolume}`,
    `reservation ${placement.address}`
  ]
  assert.deepEqual((await bench.leftovers()).sort(), expected.sort(), about)
}
