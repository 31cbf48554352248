// Whoever holds the command key and the scheduler's TLS key, against a whole agent: what its host loses, and what it does not.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { type Agent, startAgent } from '../../../src/agent/app.ts'
import { MemoryNft } from '../../../src/agent/firewall/memory-nft.ts'
import { MemoryHypervisor } from '../../../src/agent/host/memory-hypervisor.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { createLogger } from '../../../src/lib/log-output.ts'
import type { CommandSubject } from '../../../src/protocol/command.ts'
import { createApprover } from '../../support/approvals.ts'
import { enrollHost, openTestFleet } from '../../support/enrolled-host.ts'
import { claimsOf, type Signer } from '../../support/signed-commands.ts'
import type { TestScheduler } from '../../support/test-scheduler.ts'

const vmCount = 10

describe('a captured scheduler', () => {
  let directory: string
  let hypervisor: MemoryHypervisor
  let scheduler: TestScheduler
  let signer: Signer
  let agent: Agent
  const uuids = new Map<string, string>()
  let generation: number

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-captured-'))
    chmodSync(directory, 0o711)
    hypervisor = new MemoryHypervisor({ clock: systemClock })
    hypervisor.open()
    generation = 10
    for (let index = 0; index < vmCount; index++) await defineVm(`prod-${index}`, index)
    const fleet = await openTestFleet()
    ;({ scheduler, signer } = fleet)
    const settings = {
      backup: { policy: policyPath() },
      profiles: {
        starter: { network: 'hl-net', bridge: 'hlnet', subnet: '10.90.0.0/24', encryption: false }
      },
      stop: { graceMs: 0 }
    }
    const { config } = await enrollHost(fleet, directory, settings)
    const log = createLogger({ format: 'journal', level: 'error', stream: { write: () => undefined } })
    agent = await startAgent(config, { hypervisor, log, nft: new MemoryNft() })
    await scheduler.until(() => scheduler.of('heartbeat').length > 0)
  })
  afterEach(async () => {
    await agent.stop()
    await scheduler[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true })
  })

  const policyPath = () => join(directory, 'policy.yaml')
  const policy = (commands: object) =>
    writeFileSync(policyPath(), JSON.stringify({ commands }), { mode: 0o600 })
  const wait = () => ({ signal: AbortSignal.timeout(10_000) })
  const vms = async () => (await hypervisor.listVms(wait())).length

  async function defineVm(name: string, index: number): Promise<void> {
    const uuid = randomUUID()
    uuids.set(name, uuid)
    const specification = {
      ...{ name, uuid, profile: 'starter', cpus: 1, memoryBytes: 64 * 1024 ** 2, rootDiskBytes: 1024 ** 2 },
      image: { url: 'file:///x.img', sha256: 'a'.repeat(64), format: 'raw' as const }
    }
    const placement = {
      ...{ uid: 1_900_000_000 + index, macAddress: `52:54:00:00:00:1${index}`, network: 'hl-net' },
      ...{ address: `10.90.0.${10 + index}`, rootVolume: `vm-${name}-root.qcow2`, dataVolume: null }
    }
    await hypervisor.define(
      { specification, placement, generation: 1, wanted: 'stopped', seedPath: null },
      wait()
    )
  }

  function subject(vm: string): CommandSubject {
    return { vm, uuid: uuids.get(vm) ?? '', generation: generation++ }
  }

  /** Sends everything at once; resolves with the reasons of the refusals when all is answered and done. */
  async function flood(
    verb: string,
    rest: Record<string, unknown>,
    approvals?: (jws: string) => Promise<string[]>
  ): Promise<string[]> {
    const known = scheduler.of('refusal').length
    const ended = scheduler.of('result').length
    const ids = new Set<string>()
    for (const vm of uuids.keys()) {
      const claims = claimsOf(Date.now(), { verb, subject: subject(vm), arguments: { vm, ...rest } })
      ids.add(claims.id)
      const jws = await signer.sign(claims)
      scheduler.send({ type: 'command', jws, ...(approvals && { approvals: await approvals(jws) }) })
    }
    const refused = () => scheduler.of('refusal').slice(known)
    const results = () => scheduler.of('result').slice(ended)
    await scheduler.until(() => refused().length + results().length >= ids.size)
    for (const { result } of results()) assert.equal(result.outcome, 'done', JSON.stringify(result.error))
    return refused().map(({ error }) => String(error.details?.reason))
  }

  it('empties a host without a policy', async () => {
    assert.deepEqual(await flood('vm.teardown', {}), [])
    assert.equal(await vms(), 0)
  })

  it('tears down no more than the rate allows, however often it asks', async () => {
    policy({ rates: [{ verbs: ['vm.teardown', 'vm.erase', 'vm.reimage'], max: 2, per: '1h' }] })
    const reasons = await flood('vm.teardown', {})
    assert.deepEqual([reasons.length, new Set(reasons)], [vmCount - 2, new Set(['rate'])])
    assert.equal((await flood('vm.teardown', {})).length, vmCount)
    assert.equal(await vms(), vmCount - 2)
  })

  it('tears down nothing without a second signature, whatever it signs itself', async () => {
    const alice = await createApprover('alice')
    policy({
      approvals: { approvers: { alice: { jwk: alice.jwk } }, require: [{ verbs: ['vm.teardown', 'vm.re*'] }] }
    })
    const eve = await createApprover('alice')
    const reasons = await flood('vm.teardown', {}, async (jws) => [await eve.approve(jws)])
    assert.deepEqual([reasons.length, new Set(reasons)], [vmCount, new Set(['approval'])])
    // A good one that it has seen is good for that one command.
    const seen = await alice.approve(await signer.sign(claimsOf(Date.now(), { verb: 'vm.teardown' })))
    assert.equal((await flood('vm.teardown', {}, async () => [seen])).length, vmCount)
    assert.equal(await vms(), vmCount)
  })

  it('gets every VM switched off, and none erased, where they have to be kept', async () => {
    policy({ teardown: [{ requireRetainDays: 7, keepBackups: true }] })
    assert.deepEqual(new Set(await flood('vm.teardown', {})), new Set(['retain']))
    assert.deepEqual(new Set(await flood('vm.teardown', { retainDays: 1 })), new Set(['retain']))
    assert.deepEqual(await flood('vm.teardown', { retainDays: 7 }), [])
    // They are kept now: what would end that is refused as before.
    assert.deepEqual(new Set(await flood('vm.teardown', {})), new Set(['retain']))
    assert.equal((await flood('vm.erase', {})).length, vmCount)
    const kept = await hypervisor.listVms(wait())
    assert.equal(kept.length, vmCount)
    for (const { retained } of kept) assert.ok((retained?.until ?? 0) > Date.now() + 6.9 * 86_400_000)
    assert.deepEqual(await flood('vm.undelete', {}), [])
  })

  it('cannot use a policy that somebody has spoilt', async () => {
    writeFileSync(policyPath(), 'commands: [\n', { mode: 0o600 })
    const reasons = await flood('vm.teardown', {})
    assert.deepEqual([reasons.length, new Set(reasons)], [vmCount, new Set(['policy'])])
    assert.equal(await vms(), vmCount)
  })
})
