// A second signature, from the command line through a real scheduler to a whole agent: asked for, refused where it does not fit, and obeyed.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { MemoryNft } from '../../src/agent/firewall/memory-nft.ts'
import { MemoryHypervisor } from '../../src/agent/host/memory-hypervisor.ts'
import { publicHalf } from '../../src/agent/keys/jwk.ts'
import { systemClock } from '../../src/lib/clock.ts'
import type { OperationReply, SignedCommandReply } from '../../src/protocol/api.ts'
import { createApprover } from '../support/approvals.ts'
import { KeyFleet } from '../support/key-fleet.ts'
import { type Ended, hostlet } from './program.ts'

const image = Buffer.alloc(64 * 1024, 'image')
const profile = { network: 'hl-net', bridge: 'hlnet', subnet: '10.90.0.0/24', encryption: false }

describe('an approval', { timeout: 600_000 }, () => {
  let directory: string
  let fleet: KeyFleet
  let hypervisor: MemoryHypervisor
  const file = (name: string) => join(directory, name)

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-approve-'))
    chmodSync(directory, 0o711)
    writeFileSync(file('small.img'), image)
    hypervisor = new MemoryHypervisor({ clock: systemClock })
    const settings = { images: { allowFileUrls: [directory] }, profiles: { starter: profile } }
    fleet = await KeyFleet.open(directory, settings, { hypervisor, nft: new MemoryNft() })
    await keygen('alice')
    await keygen('mallory')
    const { kid: _kid, ...jwk } = JSON.parse(readFileSync(file('alice.jwk.pub'), 'utf8'))
    fleet.writePolicy({
      recovery: [{ jwk: publicHalf(fleet.recovery) }],
      commands: {
        approvals: {
          approvers: { alice: { jwk } },
          require: [{ verbs: ['vm.teardown', 'vm.reimage'], vms: ['prod-*'] }]
        }
      }
    })
    await fleet.enroll()
    await fleet.startAgent()
    for (const name of ['prod-1', 'prod-2', 'prod-3', 'web-1']) await provision(name)
  })
  after(async () => {
    await fleet?.[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true })
  })

  async function keygen(name: string): Promise<void> {
    const made = await hostlet(['approver', 'keygen', '--name', name, '--out', file(`${name}.jwk`)])
    assert.equal(made.status, 0, made.stderr)
  }
  const provision = (name: string) =>
    fleet.done('/v1/vms', {
      host: fleet.hostId,
      specification: {
        ...{ name, profile: 'starter', cpus: 1, memoryBytes: 64 * 1024 ** 2, rootDiskBytes: 1024 ** 2 },
        image: {
          url: `file://${file('small.img')}`,
          sha256: createHash('sha256').update(image).digest('hex'),
          format: 'raw'
        }
      }
    })
  const operation = async (id: string) =>
    (await fleet.api.get<OperationReply>(`/v1/operations/${id}`)).operation

  /** A teardown that waits; resolves with its id once the host has refused it. */
  async function teardown(vm: string): Promise<string> {
    const begun = await fleet.hostlet('vm', 'rm', vm, '--yes', '--no-wait', '-o', 'json')
    assert.equal(begun.status, 0, begun.stderr)
    const { id } = (JSON.parse(begun.stdout) as OperationReply).operation
    await fleet.until(
      'the host to ask for an approval',
      async () => (await operation(id)).awaits !== undefined
    )
    return id
  }
  /** Until the host has looked at it again, which it says with the reason. */
  const refusedAgain = (id: string, reason: RegExp) =>
    fleet.until(`the host to say ${reason}`, async () => reason.test((await operation(id)).next))
  const approve = (id: string, key: string, ...more: string[]): Promise<Ended> =>
    fleet.hostlet('approve', id, '--key', file(`${key}.jwk`), '--yes', ...more)
  const vms = async () =>
    (await hypervisor.listVms({ signal: AbortSignal.timeout(10_000) }))
      .map((vm) => vm.specification.name)
      .sort()

  it('has a key that only its owner reads, and that is never written over', async () => {
    assert.equal(statSync(file('alice.jwk')).mode & 0o777, 0o600)
    assert.doesNotMatch(readFileSync(file('alice.jwk.pub'), 'utf8'), /"d"/)
    const again = await hostlet(['approver', 'keygen', '--out', file('alice.jwk')])
    assert.equal(again.status, 5)
    assert.match(again.stderr, /never written over/)
  })

  it('is asked for, shown in words, signed and obeyed; other VMs need none', async () => {
    const id = await teardown('prod-1')
    const { next, state } = await operation(id)
    assert.equal(state, 'waiting')
    assert.match(next, /^Waits for an approval until .*1 missing: of alice\. .*hostlet approve/)
    assert.match((await fleet.hostlet('op', 'ls')).stdout, /vm\.teardown +prod-1 .* waiting \(approval\)/)
    assert.match((await fleet.hostlet('op', 'show', id)).stdout, /state: +waiting for an approval/)

    await fleet.done('/v1/vms/web-1', undefined, 'DELETE')
    assert.deepEqual(await vms(), ['prod-1', 'prod-2', 'prod-3'])

    const shown = await fleet.hostlet('approve', id)
    assert.equal(shown.status, 0, shown.stderr)
    assert.match(shown.stdout, /what: +erases VM prod-1 at once: its disks and keys are gone for good/)
    assert.match(shown.stdout, /approved by: +nobody/)
    assert.match(shown.stdout, /Nothing was signed/)
    const unasked = await fleet.hostlet('approve', id, '--key', file('alice.jwk'))
    assert.equal(unasked.status, 2)
    assert.match(unasked.stderr, /nothing was signed: give --yes/)

    const approved = await approve(id, 'alice')
    assert.equal(approved.status, 0, approved.stderr)
    assert.match(approved.stderr, /erases VM prod-1 at once/)
    assert.match(approved.stdout, /^Approved as alice until /)
    const waited = await fleet.hostlet('op', 'wait', id)
    assert.equal(waited.status, 0, waited.stderr)
    assert.deepEqual(await vms(), ['prod-2', 'prod-3'])
    const late = await approve(id, 'alice')
    assert.equal(late.status, 5)
    assert.match(late.stderr, /has ended/)
  })

  it('with a wrong key, too late or of another command counts for nothing', async () => {
    const id = await teardown('prod-2')
    const other = await teardown('prod-3')
    assert.equal((await approve(id, 'mallory')).status, 0)
    await refusedAgain(id, /Refused: the policy names no approver mallory\./)
    assert.equal((await approve(id, 'mallory', '--name', 'alice')).status, 0)
    await refusedAgain(id, /Refused: the one of alice is not signed with the key/)

    const jws = await signedCommand(id)
    const alice = await aliceKey()
    const now = Date.now()
    const expired = await alice.approve(jws, { issuedAt: now - 900_000, expiresAt: now - 120_000 })
    await fleet.api.post(`/v1/operations/${id}/approvals`, { approval: expired })
    await refusedAgain(id, /Refused: the one of alice expired 1\d\d s ago/)

    const foreign = await alice.approve(await signedCommand(other))
    const answer = await fleet.api.ask({
      method: 'POST',
      path: `/v1/operations/${id}/approvals`,
      json: { approval: foreign }
    })
    assert.equal(answer.status, 400)
    assert.match(JSON.stringify(answer.body), /is of another command/)
    // One that claims this command's digest, and another command's id, gets past the scheduler.
    const mixed = await alice.approve(jws, { command: other })
    await fleet.api.post(`/v1/operations/${id}/approvals`, { approval: mixed })
    await refusedAgain(id, /Refused: the one of alice is for command/)

    assert.deepEqual(await vms(), ['prod-2', 'prod-3'])
    assert.equal((await operation(id)).state, 'waiting')
  })

  it('keeps nobody waiting: a later command of the VM is done meanwhile, and makes the earlier one stale', async () => {
    const id = await teardown('prod-3')
    await fleet.done('/v1/vms/prod-3/stop', { force: true })
    assert.equal((await approve(id, 'alice')).status, 0)
    await fleet.until('the end of the teardown', async () => (await operation(id)).finishedAt !== undefined)
    assert.equal((await operation(id)).error?.code, 'E_STALE')
  })

  it('is asked for again after a restart of the host, and waits through one of the scheduler', async () => {
    const id = await teardown('prod-3')
    await fleet.stopAgent()
    await fleet.stopScheduler()
    await fleet.startScheduler()
    assert.equal((await approve(id, 'alice')).status, 0)
    await fleet.startAgent()
    await fleet.until('the end of the teardown', async () => (await operation(id)).finishedAt !== undefined)
    assert.equal((await operation(id)).state, 'done')
    assert.deepEqual(await vms(), ['prod-2'])
  })

  async function signedCommand(id: string): Promise<string> {
    const { command } = await fleet.api.get<SignedCommandReply>(`/v1/operations/${id}/command`)
    assert.ok(command)
    return command
  }

  async function aliceKey() {
    const { importJWK } = await import('jose')
    const { d, ...half } = JSON.parse(readFileSync(file('alice.jwk'), 'utf8'))
    const [privateKey, publicKey] = await Promise.all([
      importJWK({ ...half, d }, 'EdDSA'),
      importJWK(half, 'EdDSA', { extractable: true })
    ])
    return await createApprover('alice', { privateKey, publicKey } as Parameters<typeof createApprover>[1])
  }
})
