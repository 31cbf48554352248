// What every object store promises, as tests; each implementation runs them against an empty store of its own.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import type { ObjectEntry, ObjectStore } from '../../../src/backup/repository/store.ts'
import { objectBytesMax } from '../../../src/backup/repository/store.ts'
import type { HostletError } from '../../../src/errors.ts'

const wait = { signal: new AbortController().signal }
const bytes = (text: string) => [Buffer.from(text)]
const text = (content: Uint8Array) => Buffer.from(content).toString()

export const hasCode = (code: string) => (error: HostletError) => error.code === code

export async function listed(store: ObjectStore, prefix = '', { signal } = wait): Promise<ObjectEntry[]> {
  const entries: ObjectEntry[] = []
  for await (const entry of store.list(prefix, { signal })) entries.push(entry)
  return entries.sort((left, right) => (left.name < right.name ? -1 : 1))
}

export async function names(store: ObjectStore, prefix = ''): Promise<string[]> {
  return (await listed(store, prefix)).map(({ name }) => name)
}

interface ContractOptions {
  /** An empty store; closed by the suite. */
  readonly open: () => Promise<ObjectStore>
  readonly conditionalWrites: boolean
  /** Size of an object that the store stores in several parts, if it does so. */
  readonly largeBytes?: number
  readonly skip?: string | false
}

export function objectStoreContract(
  kind: string,
  { open, conditionalWrites, largeBytes = 300_000, skip = false }: ContractOptions
): void {
  const test = (name: string, run: (store: ObjectStore) => Promise<void>) =>
    it(name, async () => {
      const store = await open()
      try {
        await run(store)
      } finally {
        await store.close()
      }
    })

  describe(`${kind} keeps the promises of an object store`, { skip }, () => {
    test('returns what was stored, joined from its pieces', async (store) => {
      await store.put('vms/a/one', [Buffer.from('ab'), new Uint8Array(0), Buffer.from('cd')], wait)
      assert.equal(text(await store.get('vms/a/one', wait)), 'abcd')
    })

    test('stores empty objects', async (store) => {
      await store.put('empty', [], wait)
      assert.equal((await store.get('empty', wait)).length, 0)
      assert.deepEqual(await store.getEnd('empty', 10, wait).then(({ sizeBytes }) => sizeBytes), 0)
      assert.equal((await store.get('empty', { ...wait, range: { offset: 0, length: 9 } })).length, 0)
    })

    test('replaces an object whole', async (store) => {
      await store.put('one', bytes('a long first content'), wait)
      await store.put('one', bytes('short'), wait)
      assert.equal(text(await store.get('one', wait)), 'short')
    })

    test('reads ranges, shorter or empty where the object ends', async (store) => {
      await store.put('one', bytes('0123456789'), wait)
      const range = async (offset: number, length: number) =>
        text(await store.get('one', { ...wait, range: { offset, length } }))
      assert.equal(await range(0, 4), '0123')
      assert.equal(await range(3, 4), '3456')
      assert.equal(await range(8, 100), '89')
      assert.equal(await range(10, 4), '')
      assert.equal(await range(500, 4), '')
      assert.equal(await range(2, 0), '')
    })

    test('reads the end of an object and says its size', async (store) => {
      await store.put('one', bytes('0123456789'), wait)
      const end = await store.getEnd('one', 3, wait)
      assert.deepEqual([text(end.content), end.sizeBytes], ['789', 10])
      const whole = await store.getEnd('one', 3_000, wait)
      assert.deepEqual([text(whole.content), whole.sizeBytes], ['0123456789', 10])
    })

    test('says E_NOT_FOUND for what is not there', async (store) => {
      await store.put('vms/a', bytes('x'), wait)
      await assert.rejects(store.get('vms/b', wait), hasCode('E_NOT_FOUND'))
      await assert.rejects(store.get('other/b/c', wait), hasCode('E_NOT_FOUND'))
      await assert.rejects(
        store.get('vms/b', { ...wait, range: { offset: 0, length: 1 } }),
        hasCode('E_NOT_FOUND')
      )
      await assert.rejects(store.getEnd('vms/b', 5, wait), hasCode('E_NOT_FOUND'))
    })

    test('lists what begins with a prefix, with sizes and times', async (store) => {
      const before = Date.now()
      for (const name of [
        'vms/a/packs/aa.0',
        'vms/a/packs/ab.0',
        'vms/a/snapshots/x.json',
        'vms/ab/y',
        'top'
      ])
        await store.put(name, bytes(name), wait)
      assert.deepEqual(await names(store, 'vms/a/packs/'), ['vms/a/packs/aa.0', 'vms/a/packs/ab.0'])
      assert.deepEqual(await names(store, 'vms/a/packs/ab'), ['vms/a/packs/ab.0'])
      assert.equal((await names(store, 'vms/a/')).length, 3)
      assert.equal((await names(store, 'vms/a')).length, 4)
      assert.equal((await names(store)).length, 5)
      assert.deepEqual(await names(store, 'nothing/here/'), [])
      const [entry] = await listed(store, 'top')
      assert.equal(entry?.sizeBytes, 3)
      assert.ok(Math.abs((entry?.modifiedAt ?? 0) - before) < 3_600_000)
    })

    test('removes, and does not mind when there is nothing', async (store) => {
      await store.put('vms/a/one', bytes('x'), wait)
      await store.remove('vms/a/one', wait)
      await store.remove('vms/a/one', wait)
      await store.remove('never/was/there', wait)
      assert.deepEqual(await names(store), [])
    })

    test('refuses names that lead elsewhere', async (store) => {
      const long = 'a'.repeat(600)
      for (const name of [
        '',
        '/etc/passwd',
        '../x',
        'a/../b',
        'a/./b',
        'a//b',
        'a/',
        'a b',
        'ü',
        'a\0b',
        '~partial/x',
        long
      ]) {
        await assert.rejects(store.put(name, bytes('x'), wait), hasCode('E_BAD_REQUEST'), name)
        await assert.rejects(store.get(name, wait), hasCode('E_BAD_REQUEST'), name)
        await assert.rejects(store.getEnd(name, 1, wait), hasCode('E_BAD_REQUEST'), name)
        await assert.rejects(store.remove(name, wait), hasCode('E_BAD_REQUEST'), name)
      }
      for (const prefix of ['/', '../', 'a/../', 'a//', '~'])
        await assert.rejects(names(store, prefix), hasCode('E_BAD_REQUEST'), prefix)
    })

    test('refuses what is longer than any object', async (store) => {
      const half = Buffer.alloc(objectBytesMax / 2)
      await assert.rejects(store.put('one', [half, half, Buffer.from('x')], wait), hasCode('E_BAD_REQUEST'))
      assert.deepEqual(await names(store), [])
    })

    test('stores large objects whole', async (store) => {
      const pieces = [randomBytes(70_001), randomBytes(largeBytes - 70_001)]
      await store.put('large', pieces, wait)
      const content = await store.get('large', wait)
      assert.ok(Buffer.concat(pieces).equals(content))
      const end = await store.getEnd('large', 1_000, wait)
      assert.equal(end.sizeBytes, largeBytes)
      assert.ok(Buffer.from(end.content).equals(Buffer.concat(pieces).subarray(-1_000)))
    })

    test('does nothing for who has given up already', async (store) => {
      const signal = AbortSignal.abort(new Error('enough'))
      await assert.rejects(store.put('one', bytes('x'), { signal }), /enough/)
      await assert.rejects(store.get('one', { signal }), /enough/)
      await assert.rejects(store.remove('one', { signal }), /enough/)
      await assert.rejects(listed(store, '', { signal }), /enough/)
      assert.deepEqual(await names(store), [])
    })

    test('shows a reader the old content or the new, never a mixture', async (store) => {
      const contents = Array.from({ length: 6 }, (_, index) => Buffer.alloc(200_000, index))
      await store.put('one', [contents[0] ?? Buffer.of()], wait)
      const writing = (async () => {
        for (const content of contents) await store.put('one', [content], wait)
      })()
      for (let reads = 0; reads < 12; reads++) {
        const seen = await store.get('one', wait)
        assert.equal(seen.length, 200_000)
        assert.equal(new Set(seen).size, 1)
      }
      await writing
    })

    if (conditionalWrites) conditionalWriteTests(test)
    else
      test('says that it has no conditional writes', async (store) => {
        await assert.rejects(
          store.put('one', bytes('x'), { ...wait, ifAbsent: true }),
          hasCode('E_UNSUPPORTED')
        )
      })
  })
}

function conditionalWriteTests(
  test: (name: string, run: (store: ObjectStore) => Promise<void>) => void
): void {
  test('stores with ifAbsent only what is not there', async (store) => {
    await store.put('vms/a/one', bytes('first'), { ...wait, ifAbsent: true })
    await assert.rejects(
      store.put('vms/a/one', bytes('second'), { ...wait, ifAbsent: true }),
      hasCode('E_CONFLICT')
    )
    assert.equal(text(await store.get('vms/a/one', wait)), 'first')
    assert.deepEqual(await names(store), ['vms/a/one'])
  })

  test('lets one of many win that store at once', async (store) => {
    const attempts = await Promise.allSettled(
      Array.from({ length: 8 }, (_, index) =>
        store.put('one', bytes(`writer ${index}`), { ...wait, ifAbsent: true })
      )
    )
    const winners = attempts.flatMap(({ status }, index) => (status === 'fulfilled' ? [index] : []))
    assert.equal(winners.length, 1)
    for (const attempt of attempts)
      if (attempt.status === 'rejected') assert.equal(attempt.reason.code, 'E_CONFLICT')
    assert.equal(text(await store.get('one', wait)), `writer ${winners[0]}`)
  })
}
