// Keys of disks: kept wrapped, found by their VM, destroyed where they lie, and whole after a crash.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import {
  closeSync,
  linkSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { DiskKeys, type KeptDiskKey } from '../../../src/agent/keys/disk-keys.ts'
import { HostKey } from '../../../src/agent/keys/host-key.ts'

describe('disk keys', () => {
  let stateDirectory: string
  let directory: string
  let hostKey: HostKey
  let keys: DiskKeys
  const clock = { now: () => 1_000 }
  const key = (changes: Partial<KeptDiskKey> = {}): KeptDiskKey => ({
    id: randomUUID(),
    vm: { name: 'web-1', uuid: '0b54e6f2-6b53-4a3e-9d1c-000000000001' },
    volume: 'web-1.0b54e6f2.root.qcow2',
    passphrase: 'the very passphrase',
    ...changes
  })
  const pathOf = ({ id }: { id: string }) => join(directory, `${id}.json`)

  beforeEach(async () => {
    stateDirectory = mkdtempSync(join(tmpdir(), 'hostlet-disk-keys-'))
    directory = join(stateDirectory, 'keys')
    await reopen()
  })
  afterEach(() => rmSync(stateDirectory, { recursive: true, force: true }))

  it('are kept in a private file each, wrapped', async () => {
    const kept = key()
    await keys.keep(kept)
    assert.equal(statSync(pathOf(kept)).mode & 0o777, 0o600)
    assert.doesNotMatch(readFileSync(pathOf(kept), 'utf8'), /very passphrase/)
    await reopen()
    assert.equal(await keys.unwrap(kept.id), kept.passphrase)
    const { passphrase: _not, ...record } = kept
    assert.deepEqual(keys.listOf(kept.vm.uuid), [{ ...record, createdAt: 1_000 }])
  })

  it('are destroyed by VM: overwritten in place, then unlinked, those of others left', async () => {
    const [first, second] = [key(), key()]
    const other = key({ vm: { name: 'web-1', uuid: randomUUID() } })
    for (const each of [first, second, other]) await keys.keep(each)
    const held = openSync(pathOf(first), 'r')
    const before = readFileSync(held)
    const gone = keys.destroyAll(first.vm.uuid)
    assert.deepEqual(gone.map(({ id }) => id).sort(), [first.id, second.id].sort())
    const after = Buffer.alloc(before.length)
    readSync(held, after, 0, after.length, 0)
    closeSync(held)
    assert.equal(after.includes('wrapped'), false)
    assert.deepEqual(readdirSync(directory), [`${other.id}.json`])
    await assert.rejects(keys.unwrap(first.id), { code: 'E_NOT_FOUND' })
    assert.deepEqual(keys.destroyAll(first.vm.uuid), [])
  })

  it('replace one of the same id, whose file is overwritten', async () => {
    const kept = key()
    await keys.keep(kept)
    const held = openSync(pathOf(kept), 'r')
    await keys.keep({ ...kept, passphrase: 'another' })
    const after = Buffer.alloc(64)
    readSync(held, after, 0, after.length, 0)
    closeSync(held)
    assert.equal(after.includes(kept.id), false)
    assert.equal(await keys.unwrap(kept.id), 'another')
    assert.deepEqual(readdirSync(directory), [`${kept.id}.json`])
  })

  it('are whole after a crash in the middle of a write, with nothing of it left', async () => {
    const kept = key()
    await keys.keep(kept)
    const path = pathOf(kept)
    // Before the new content was in its place: both names are of one file.
    linkSync(path, join(directory, `.before.${kept.id}.json`))
    writeFileSync(join(directory, `.${kept.id}.json.part`), 'half of a record')
    await reopen()
    assert.equal(await keys.unwrap(kept.id), kept.passphrase)
    // After it: the old content has a name of its own still.
    writeFileSync(join(directory, `.before.${kept.id}.json`), 'the old record')
    await reopen()
    assert.equal(await keys.unwrap(kept.id), kept.passphrase)
    assert.deepEqual(readdirSync(directory), [`${kept.id}.json`])
  })

  it('are told to who keeps a second copy, before the disk is used; without it there is no key', async () => {
    const told: KeptDiskKey[] = []
    const listener = keys.onKept((each) => {
      told.push(each)
      return Promise.resolve()
    })
    const kept = key()
    await keys.keep(kept)
    assert.deepEqual(told, [kept])
    listener[Symbol.dispose]()
    keys.onKept(() => Promise.reject(new Error('away')))
    await assert.rejects(keys.keep(key()), /away/)
  })

  it('are wrapped anew at a rotation, those that nobody can open left as they are', async () => {
    const [kept, lost] = [key(), key()]
    await keys.keep(kept)
    await keys.keep(lost)
    const text = readFileSync(pathOf(lost), 'utf8')
    const stranger = await HostKey.open({ stateDirectory: join(stateDirectory, 'other'), clock })
    const record = { ...JSON.parse(text), wrapped: await stranger.seal('x') }
    writeFileSync(pathOf(lost), JSON.stringify(record))
    await hostKey.rotate(async () => {
      assert.deepEqual(await keys.rewrapAll(), { rewrapped: [kept.id], unreadable: [lost.id] })
    })
    assert.ok(hostKey.isCurrent(JSON.parse(readFileSync(pathOf(kept), 'utf8')).wrapped))
    assert.equal(await keys.unwrap(kept.id), kept.passphrase)
    await assert.rejects(keys.unwrap(lost.id), { code: 'E_AUTH' })
  })

  it('stay destroyed, and keep what is changed, while they are wrapped anew', async () => {
    const [gone, changed] = [key(), key()]
    await keys.keep(gone)
    await keys.keep(changed)
    let change: { from: string; to: string } | undefined
    await hostKey.rotate(async () => {
      const wrapping = keys.rewrapAll()
      keys.destroy(gone.id)
      change = await keys.beginChange(changed.id)
      await wrapping
    })
    assert.deepEqual(readdirSync(directory), [`${changed.id}.json`])
    assert.equal(change?.from, changed.passphrase)
    keys.turnOver(changed.id)
    assert.equal(await keys.unwrap(changed.id), change?.to)
    assert.deepEqual(await keys.changeToEnd(changed.id), change)
    keys.endChange(changed.id)
    assert.equal(await keys.changeToEnd(changed.id), undefined)
    const { wrapped } = JSON.parse(readFileSync(pathOf(changed), 'utf8'))
    assert.ok(hostKey.isCurrent(wrapped))
  })

  it('are kept under the new host key where it comes while they are being wrapped', async () => {
    const kept = key()
    const keeping = keys.keep(kept)
    await hostKey.rotate(async () => void (await keys.rewrapAll()))
    await keeping
    assert.ok(hostKey.isCurrent(JSON.parse(readFileSync(pathOf(kept), 'utf8')).wrapped))
  })

  it('say which file is not theirs, and destroy it all the same', async () => {
    const kept = key()
    await keys.keep(kept)
    writeFileSync(pathOf(kept), 'nonsense')
    await assert.rejects(keys.unwrap(kept.id), { code: 'E_CORRUPT' })
    assert.deepEqual(keys.list(), [])
    assert.equal(keys.destroy(kept.id), true)
  })

  async function reopen(): Promise<void> {
    hostKey = await HostKey.open({ stateDirectory, clock })
    keys = new DiskKeys({ directory, hostKey: () => hostKey, clock })
    await keys.prepare()
  }
})
