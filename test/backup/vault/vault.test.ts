// Vaults: who can open them, what is believed, and what is said of manifests that are not.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, describe, it } from 'node:test'
import type { JWK } from 'jose'
import type { Envelope } from '../../../src/backup/vault/envelope.ts'
import { freshnessOf } from '../../../src/backup/vault/freshness.ts'
import type { ManifestBody } from '../../../src/backup/vault/manifest-body.ts'
import type { BadSnapshot, SnapshotSummary } from '../../../src/backup/vault/read-manifest.ts'
import { recipientOf } from '../../../src/backup/vault/recipients.ts'
import type { Vault } from '../../../src/backup/vault/vault.ts'
import { HostletError } from '../../../src/errors.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { TestAuthority } from '../../support/test-authority.ts'
import { bodyOf, diskOf } from '../plain-writer.ts'
import { type Bench, createBench, newKey, signerOf } from '../vault-bench.ts'

let bench: Bench
let vault: Vault
beforeEach(async () => {
  bench = await createBench()
  vault = await bench.open()
})

const nameOf = (id: string) => `vms/${bench.vm}/snapshots/${id}.json`
const kidOf = async (key: JWK) => (await recipientOf(key)).kid

function edit(id: string, changes: Record<string, unknown>): void {
  const object = bench.store.objects.get(nameOf(id))
  assert.ok(object)
  const envelope = JSON.parse(Buffer.from(object.content).toString()) as Record<string, unknown>
  object.content = Buffer.from(JSON.stringify({ ...envelope, ...changes }))
}

async function bad(snapshots: Promise<SnapshotSummary[]>, id: string): Promise<BadSnapshot> {
  const found = (await snapshots).find((one) => one.id === id)
  assert.equal(found?.state, 'bad')
  return found as BadSnapshot
}

describe('the key of a vault', () => {
  it('is random and new where there is nothing, and the same from the first snapshot on', async () => {
    const other = await bench.open()
    assert.equal(vault.isNew && other.isNew, true)
    assert.notDeepEqual(vault.vmKey, other.vmKey)
    await bench.backUp(vault, diskOf([1]))
    const again = await bench.open()
    assert.equal(again.isNew, false)
    assert.deepEqual(Buffer.from(again.vmKey), Buffer.from(vault.vmKey))
  })

  it('opens with each recipient alone, of either curve', async () => {
    const { exportJWK, generateKeyPair } = await import('jose')
    const pair = await generateKeyPair('ECDH-ES+A256KW', { crv: 'P-256', extractable: true })
    const [recovery, tenant] = [await newKey(), await exportJWK(pair.privateKey)]
    await bench.backUp(vault, diskOf([1]), { recipients: [bench.key, recovery, tenant] })
    for (const key of [bench.key, recovery, tenant]) {
      const opened = await bench.open({ keys: [await newKey(), key] })
      assert.deepEqual(Buffer.from(opened.vmKey), Buffer.from(vault.vmKey))
    }
  })

  it('stays shut for everyone else, who is told whose keys would open it', async () => {
    const recovery = await newKey()
    await bench.backUp(vault, diskOf([1]), { recipients: [bench.key, recovery] })
    const expected = [await kidOf(bench.key), await kidOf(recovery)].join(', ')
    for (const keys of [[], [await newKey()]])
      await assert.rejects(bench.open({ keys }), (error: unknown) => {
        assert.ok(error instanceof HostletError)
        assert.deepEqual([error.code, error.details.recipients], ['E_AUTH', expected])
        return true
      })
  })

  it('is in no manifest in clear, nor is the private part of a key that was given as recipient', async () => {
    const { id } = await bench.backUp(vault, diskOf([1]))
    const text = Buffer.from(bench.store.objects.get(nameOf(id))?.content ?? []).toString()
    assert.doesNotMatch(text, new RegExp(String(bench.key.d)))
    for (const encoding of ['hex', 'base64url', 'base64'] as const)
      assert.ok(!text.includes(Buffer.from(vault.vmKey).toString(encoding)))
  })

  it('refuses recipients of other kinds, and none at all', async () => {
    const body = bodyOf({ vm: bench.vm, sequence: 1, disks: [] })
    const disks = [{ role: 'root', sizeBytes: 0, root: null, levels: 1, allocatedBytes: 0 }]
    const rsa: JWK = { kty: 'RSA', n: 'AQAB', e: 'AQAB' }
    for (const recipients of [[], [rsa], [{ kty: 'OKP', crv: 'X25519', x: 'short' }]])
      await assert.rejects(
        vault.commit({ ...bench, snapshot: randomUUID(), body: { ...body, disks }, recipients }),
        { code: 'E_BAD_REQUEST' }
      )
    assert.equal(bench.store.objects.size, 0)
  })

  it('is never taken from a manifest of someone who is not trusted, though it was wrapped for us', async () => {
    const stranger = await TestAuthority.create()
    const theirs = await bench.open()
    await bench.backUp(theirs, diskOf([1]), { signer: await signerOf(stranger) })
    const ours = await bench.open()
    assert.equal(ours.isNew, true)
    assert.notDeepEqual(ours.vmKey, theirs.vmKey)
  })
})

describe('the key of a vault that several hosts write to', () => {
  const life = { from: Date.parse('2020-01-01'), to: Date.parse('2040-01-01') }
  const keyAt = async (host: string) => Buffer.from((await bench.open({ host })).vmKey)

  it('is one key, wherever the VM goes', async () => {
    await bench.backUp(vault, diskOf([1]))
    const second = await bench.open({ host: 'host-2' })
    const signer = await signerOf(bench.authority, 'host-2', life)
    const change = (body: ManifestBody) => ({ ...body, host: 'host-2' })
    await bench.backUp(second, diskOf([2]), { signer, change })
    for (const host of ['host-1', 'host-2', 'host-3'])
      assert.deepEqual(await keyAt(host), Buffer.from(vault.vmKey))
  })

  it('is not taken from another host by one that has a key', async () => {
    await bench.backUp(vault, diskOf([1]))
    // A captured host, which was never given the key, puts a snapshot of its own there, wrapped for host-1.
    const captured = await bench.open({ store: new MemoryStore() })
    const signer = await signerOf(bench.authority, 'host-2', life)
    const change = (body: ManifestBody) => ({ ...body, host: 'host-2', sequence: 1_000 })
    const { id } = await bench.backUp(captured, diskOf([9]), { signer, change })
    assert.ok(captured.store instanceof MemoryStore)
    for (const [name, object] of captured.store.objects) bench.store.objects.set(name, object)
    const again = await bench.open({ host: 'host-1' })
    assert.equal((await again.newest(bench))?.id, id)
    assert.deepEqual(Buffer.from(again.vmKey), Buffer.from(vault.vmKey))
  })
})

describe('committing', () => {
  const commitment = async (signer: Bench['signer'], changes: Partial<ManifestBody> = {}) => {
    const disks = [{ role: 'root', sizeBytes: 0, root: null, levels: 1, allocatedBytes: 0 }]
    const body = { ...bodyOf({ vm: bench.vm, sequence: 1, disks }), ...changes }
    return { ...bench, snapshot: randomUUID(), body, signer, recipients: [bench.key] }
  }

  it('writes nothing that no reader would believe, and says why', async () => {
    const life = { from: Date.parse('2020-01-01'), to: Date.parse('2021-01-01') }
    const cases = [
      {
        signer: await signerOf(await TestAuthority.create()),
        says: /not signed by a CA that is trusted here/
      },
      { signer: await signerOf(bench.authority, 'host-2'), says: /does not belong to host host-1/ },
      { signer: await signerOf(bench.authority, 'host-1', life), says: /not valid when the backup was made/ },
      { signer: { ...bench.signer, sign: async () => new Uint8Array(64) }, says: /does not fit its content/ }
    ]
    for (const { signer, says } of cases)
      await assert.rejects(vault.commit(await commitment(signer)), (error: unknown) => {
        assert.ok(error instanceof HostletError)
        assert.equal(error.code, 'E_AUTH')
        assert.match(error.message, says)
        return true
      })
    assert.equal(bench.store.objects.size, 0)
    await vault.commit(await commitment(bench.signer))
    assert.equal(bench.store.objects.size, 1)
  })

  it('is not for a vault that was opened without a CA', async () => {
    const unchecked = await bench.open({ trust: undefined })
    await assert.rejects(unchecked.commit(await commitment(bench.signer)), { code: 'E_BAD_REQUEST' })
    assert.equal(bench.store.objects.size, 0)
  })

  it('is under the key that the data was written under, though all snapshots are gone by then', async () => {
    await bench.backUp(vault, diskOf([1]))
    const again = await bench.open()
    const key = Buffer.from(again.vmKey)
    for (const name of [...bench.store.objects.keys()])
      if (name.startsWith(`vms/${bench.vm}/snapshots/`)) bench.store.objects.delete(name)
    assert.deepEqual(await again.snapshots(bench), [])
    const last = await commitment(bench.signer)
    await again.commit(last)
    const { vmKey } = await (await bench.open()).snapshot(last.snapshot, bench)
    assert.deepEqual(Buffer.from(vmKey), key)
  })
})

describe('snapshots of a vault', () => {
  it('are listed by sequence, the newest last', async () => {
    const ids: string[] = []
    for (const fill of [1, 2, 3]) ids.push((await bench.backUp(vault, diskOf([fill]))).id)
    const snapshots = await (await bench.open()).snapshots(bench)
    assert.deepEqual(
      snapshots.map(({ id }) => id),
      ids
    )
    assert.equal((await vault.snapshot('latest', bench)).id, ids[2])
    await assert.rejects(vault.snapshot(randomUUID(), bench), { code: 'E_NOT_FOUND' })
  })

  it('carry what was committed', async () => {
    const taken = await bench.backUp(vault, diskOf([1, 2]))
    const { body, signer } = await (await bench.open()).snapshot(taken.id, bench)
    const { references, content, ...disk } = taken.disk
    assert.equal(references.size, content.blocks.size)
    assert.deepEqual(body.disks, [disk])
    assert.deepEqual(body.vm, { uuid: bench.vm, name: 'web-1', specification: { cpus: 2 } })
    assert.equal(signer, 'trusted')
  })

  it('are signed by nobody in particular where no CA is given', async () => {
    const { id } = await bench.backUp(vault, diskOf([1]))
    const unchecked = await bench.open({ trust: undefined })
    assert.equal((await unchecked.snapshot(id, bench)).signer, 'not-checked')
  })

  it('are committed once', async () => {
    const { id } = await bench.backUp(vault, diskOf([1]))
    const { body } = await vault.snapshot(id, bench)
    const again = { ...bench, snapshot: id, body, recipients: [bench.key] }
    await assert.rejects(vault.commit(again), { code: 'E_CONFLICT' })
    const plain = new MemoryStore({ conditionalWrites: false }, bench.store.objects)
    await assert.rejects((await bench.open({ store: plain })).commit(again), { code: 'E_CONFLICT' })
  })

  it('count as committed where only the answer was lost', async () => {
    let lost = 0
    const retrying = new MemoryStore({}, bench.store.objects)
    const put = retrying.put.bind(retrying)
    // As a client does that sends a request again after its answer did not come.
    retrying.put = async (name, content, wait) => {
      if (wait.ifAbsent && lost++ === 0) await put(name, content, wait)
      await put(name, content, wait)
    }
    const { id } = await bench.backUp(await bench.open({ store: retrying }), diskOf([1]))
    assert.equal((await vault.snapshot(id, bench)).id, id)
    assert.equal(lost, 1)
  })

  it('refuse a body that could not be read back, and one of another VM', async () => {
    const disks = [{ role: 'root', sizeBytes: 2 ** 40, root: null, levels: 1, allocatedBytes: 0 }]
    const body = bodyOf({ vm: bench.vm, sequence: 1, disks })
    const commitment = { ...bench, snapshot: randomUUID(), recipients: [bench.key] }
    await assert.rejects(vault.commit({ ...commitment, body }), { code: 'E_BAD_REQUEST' })
    const foreign = bodyOf({ vm: randomUUID(), sequence: 1, disks: [] })
    await assert.rejects(vault.commit({ ...commitment, body: foreign }), { code: 'E_BAD_REQUEST' })
  })

  it('go when they are removed', async () => {
    const { id } = await bench.backUp(vault, diskOf([1]))
    await vault.remove(id, bench)
    assert.deepEqual(await vault.snapshots(bench), [])
    await assert.rejects(vault.remove('../../../x', bench), { code: 'E_BAD_REQUEST' })
  })
})

describe('a manifest that is not as it was written', () => {
  let id: string
  let other: string
  beforeEach(async () => {
    id = (await bench.backUp(vault, diskOf([1]))).id
    other = (await bench.backUp(vault, diskOf([2]))).id
  })

  const cases: readonly {
    readonly what: string
    readonly change: () => void
    readonly reason: BadSnapshot['reason']
    readonly code: string
  }[] = [
    { what: 'cut off', change: () => cut(100), reason: 'damaged', code: 'E_CORRUPT' },
    { what: 'empty', change: () => cut(0), reason: 'damaged', code: 'E_CORRUPT' },
    {
      what: 'of a later format',
      change: () => edit(id, { format: 2 }),
      reason: 'unsupported',
      code: 'E_UNSUPPORTED'
    },
    {
      what: 'of another VM',
      change: () => edit(id, { vm: randomUUID() }),
      reason: 'foreign',
      code: 'E_CORRUPT'
    },
    { what: 'of another snapshot', change: () => copyOver(), reason: 'foreign', code: 'E_CORRUPT' },
    {
      what: 'renamed inside',
      change: () => {
        copyOver()
        edit(id, { snapshot: id })
      },
      reason: 'forged',
      code: 'E_AUTH'
    },
    { what: 'with another body', change: () => swap('sealed'), reason: 'forged', code: 'E_AUTH' },
    { what: 'with another signature', change: () => swap('signature'), reason: 'forged', code: 'E_AUTH' },
    {
      what: 'with no signature to speak of',
      change: () => edit(id, { signature: { protected: 'e30', signature: '' } }),
      reason: 'forged',
      code: 'E_AUTH'
    },
    {
      what: 'for another key',
      change: () => edit(id, { keyId: '0'.repeat(32) }),
      reason: 'forged',
      code: 'E_AUTH'
    }
  ]

  function cut(bytes: number): void {
    const object = bench.store.objects.get(nameOf(id))
    assert.ok(object)
    object.content = object.content.slice(0, bytes)
  }
  function copyOver(): void {
    const from = bench.store.objects.get(nameOf(other))
    assert.ok(from)
    bench.store.objects.set(nameOf(id), { ...from })
  }
  function swap(part: string): void {
    const from = JSON.parse(
      Buffer.from(bench.store.objects.get(nameOf(other))?.content ?? []).toString()
    ) as Record<string, unknown>
    edit(id, { [part]: from[part] })
  }

  for (const { what, change, reason, code } of cases)
    it(`is named with its reason: ${what}`, async () => {
      change()
      const opened = await bench.open()
      const summary = await bad(opened.snapshots(bench), id)
      assert.deepEqual([summary.reason, summary.code], [reason, code])
      assert.equal((await opened.snapshot('latest', bench)).id, other)
      await assert.rejects(opened.snapshot(id, bench), { code })
    })

  it('opens with the key of its neighbours when only its wrapping is spoilt', async () => {
    edit(id, { keys: { protected: 'e30', recipients: [{}], iv: '', tag: '', ciphertext: '' } })
    assert.equal((await (await bench.open()).snapshot(id, bench)).id, id)
  })

  it('tells a signer whom nobody trusts, one who is another host, and one whose certificate had expired', async () => {
    const stranger = await signerOf(await TestAuthority.create())
    const another = await signerOf(bench.authority, 'host-2')
    const late = await signerOf(bench.authority, 'host-1', { to: Date.now() - 1_000 })
    for (const signer of [stranger, another, late]) {
      const taken = await bench.backUp(vault, diskOf([3]), { signer })
      const summary = await bad((await bench.open()).snapshots(bench), taken.id)
      assert.deepEqual([summary.reason, summary.code], ['untrusted', 'E_AUTH'])
    }
  })

  it('costs no more than its longest, and no more than so many recipients, to be refused', async () => {
    const object = bench.store.objects.get(nameOf(id))
    assert.ok(object)
    const { keys } = JSON.parse(Buffer.from(object.content).toString()) as Pick<Envelope, 'keys'>
    const [recipient] = keys.recipients
    assert.ok(recipient)
    // The one that fits stands behind those that are looked at.
    const spoilt = { ...recipient, encrypted_key: Buffer.alloc(40).toString('base64url') }
    edit(id, { keys: { ...keys, recipients: [...Array.from({ length: 16 }, () => spoilt), recipient] } })
    edit(other, { keys: { protected: 'e30', recipients: [{}], iv: '', tag: '', ciphertext: '' } })
    await assert.rejects(bench.open(), { code: 'E_AUTH' })
    object.content = Buffer.alloc(3 * 1024 * 1024, ' ')
    let longest = 0
    const counting = new MemoryStore({}, bench.store.objects)
    const get = counting.get.bind(counting)
    counting.get = async (name, wait) => {
      const content = await get(name, wait)
      longest = Math.max(longest, content.length)
      return content
    }
    await assert.rejects(bench.open({ store: counting }), { code: 'E_AUTH' })
    assert.equal(longest, 1024 * 1024 + 1)
  })

  it('does not keep a store that does not answer from being told', async () => {
    const down = new MemoryStore(
      {
        before: (call) => {
          if (call === 'get') throw new HostletError('E_UNAVAILABLE', 'away')
        }
      },
      bench.store.objects
    )
    await assert.rejects(bench.open({ store: down }), { code: 'E_UNAVAILABLE' })
  })
})

describe('wrapping the key anew', () => {
  it('lets in the new recipients and shuts out the old ones, and touches nothing else', async () => {
    for (const fill of [1, 2]) await bench.backUp(vault, diskOf([fill]))
    const before = new Map(
      [...bench.store.objects].map(([name, { content }]) => [name, Buffer.from(content)])
    )
    const next = await newKey()
    const rewritten = await vault.rewrap([next], bench)
    assert.equal(rewritten.length, 2)
    await assert.rejects(bench.open(), { code: 'E_AUTH' })
    assert.equal((await (await bench.open({ keys: [next] })).snapshots(bench)).length, 2)
    for (const [name, content] of before) {
      const now = Buffer.from(bench.store.objects.get(name)?.content ?? [])
      if (!name.endsWith('.json')) assert.ok(now.equals(content))
      else {
        const [{ keys: old, ...rest }, { keys: fresh, ...same }] = [content, now].map((bytes) =>
          JSON.parse(bytes.toString())
        ) as [Record<string, unknown>, Record<string, unknown>]
        assert.deepEqual(same, rest)
        assert.notDeepEqual(fresh, old)
      }
    }
  })

  it('leaves every snapshot readable for one of both where it is cut short', async () => {
    for (const fill of [1, 2, 3]) await bench.backUp(vault, diskOf([fill]))
    let puts = 0
    const dying = new MemoryStore(
      {
        before: (call) => {
          if (call === 'put' && ++puts === 2) throw new Error('killed')
        }
      },
      bench.store.objects
    )
    const next = await newKey()
    await assert.rejects((await bench.open({ store: dying })).rewrap([next], bench), /killed/)
    for (const keys of [[next], [bench.key]]) {
      const snapshots = await (await bench.open({ keys })).snapshots(bench)
      assert.ok(snapshots.every(({ state }) => state === 'good'))
    }
    await (await bench.open()).rewrap([next], bench)
    await assert.rejects(bench.open(), { code: 'E_AUTH' })
  })
})

describe('a repository that was rolled back', () => {
  it('is told by what others remember, and not to be told where nobody does', async () => {
    const taken = [
      await bench.backUp(vault, diskOf([1])),
      await bench.backUp(vault, diskOf([2])),
      await bench.backUp(vault, diskOf([3]))
    ]
    const [first, second, third] = taken
    assert.ok(first && second && third)
    const good = async () =>
      (await (await bench.open()).snapshots(bench)).filter((one) => one.state === 'good')
    assert.equal(freshnessOf(await good(), []), 'unverifiable')
    assert.equal(freshnessOf(await good(), [{ snapshot: third.id }]), 'known')
    // Removed by retention: a newer one is there.
    await vault.remove(second.id, bench)
    assert.equal(freshnessOf(await good(), [{ snapshot: second.id }, { snapshot: third.id }]), 'known')
    await vault.remove(third.id, bench)
    assert.equal(freshnessOf(await good(), [{ snapshot: third.id }]), 'rolled-back')
    assert.equal(freshnessOf(await good(), [{ snapshot: third.id, sequence: 3 }]), 'rolled-back')
    assert.equal(freshnessOf(await good(), [{ snapshot: first.id }]), 'known')
    assert.equal(freshnessOf([], [{ snapshot: first.id }]), 'rolled-back')
    assert.equal(freshnessOf(await good(), [{ snapshot: randomUUID(), sequence: 0 }]), 'known')
  })
})
