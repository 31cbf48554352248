// Pruning: what stays is whole, what nothing needs is gone, wherever it is cut short.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { parsePackName } from '../../../src/backup/format/pack.ts'
import { prune } from '../../../src/backup/prune/prune.ts'
import { chooseKept } from '../../../src/backup/prune/retention.ts'
import { verifySnapshot } from '../../../src/backup/read/verify.ts'
import type { Vault } from '../../../src/backup/vault/vault.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { diskOf, PlainWriter } from '../plain-writer.ts'
import { createBench, type Taken } from '../vault-bench.ts'

const dayMs = 86_400_000
const start = Date.parse('2030-01-01T12:00:00Z')
const bench = await createBench()
const { signal } = bench

interface History {
  readonly objects: MemoryStore['objects']
  readonly taken: readonly Taken[]
}

/** One snapshot a day, each against the one before; every list of fills is the content of the disk on that day. */
async function makeHistory(days: readonly (readonly number[])[], entriesMax: number): Promise<History> {
  const store = new MemoryStore()
  const vault = await bench.open({ store })
  const taken: Taken[] = []
  for (const [day, fills] of days.entries())
    taken.push(
      await bench.backUp(vault, diskOf(fills), { parent: taken.at(-1), at: start + day * dayMs, entriesMax })
    )
  return { objects: store.objects, taken }
}

function copyOf(
  objects: MemoryStore['objects'],
  options: ConstructorParameters<typeof MemoryStore>[0] = {}
): MemoryStore {
  return new MemoryStore(options, new Map([...objects].map(([name, object]) => [name, { ...object }])))
}

function packNames(store: MemoryStore): string[] {
  return [...store.objects.keys()].filter((name) => parsePackName(bench.vm, name) !== undefined).sort()
}

async function mustBeWhole(vault: Vault, ids: readonly string[]): Promise<void> {
  const all = await vault.snapshots({ signal })
  for (const id of ids) {
    const snapshot = all.find((one) => one.id === id)
    assert.ok(snapshot, `snapshot ${id} is gone`)
    const report = await verifySnapshot({ store: vault.store, vm: vault.vm, snapshot, workers: 1, signal })
    assert.deepEqual(report.faults, [])
  }
}

/** Packs with an entry that one of the snapshots refers to; nodes are found through the packs that are left. */
function packsNeeded(taken: readonly Taken[]): Set<string> {
  const hex = (pack: Uint8Array) => Buffer.from(pack).toString('hex')
  return new Set(
    taken.flatMap(({ disk }) => [
      ...[...disk.references.values()].map(({ pack }) => hex(pack)),
      ...(disk.root === null ? [] : [hex(disk.root.pack)])
    ])
  )
}

const history = fc.array(fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 8, maxLength: 8 }), {
  minLength: 1,
  maxLength: 7
})
const count = fc.option(fc.nat(4), { nil: undefined })
const rules = fc.record({ last: count, daily: count, weekly: count })

describe('prune', () => {
  it('leaves exactly what the kept snapshots need, for any history and any rules', async () => {
    await fc.assert(
      fc.asyncProperty(history, rules, fc.integer({ min: 1, max: 6 }), async (days, keep, entriesMax) => {
        const { objects, taken } = await makeHistory(days, entriesMax)
        const store = copyOf(objects)
        const vault = await bench.open({ store })
        const kept = chooseKept(
          taken.map(({ id }, day) => ({ id, at: start + day * dayMs })),
          keep
        )
        const stays = taken.filter(({ id }) => kept.has(id))
        const report = await prune({ vault, keep, signal })
        assert.deepEqual(
          [...report.kept],
          stays.map(({ id }) => id)
        )
        assert.deepEqual(
          [...report.removed].sort(),
          taken
            .filter(({ id }) => !kept.has(id))
            .map(({ id }) => id)
            .sort()
        )
        // One leaf is the whole tree here, so the model of reachability is complete.
        const left = new Set(packNames(store).map((name) => name.split('/').at(-1)?.split('.')[0]))
        assert.deepEqual(left, packsNeeded(stays))
        await mustBeWhole(await bench.open({ store }), [...kept])
      }),
      { numRuns: 25 }
    )
  })

  it('says beforehand what would go, and changes nothing', async () => {
    const { objects } = await makeHistory(
      [
        [1, 2, 3, 4],
        [1, 2, 3, 5],
        [6, 7, 8, 9]
      ],
      8
    )
    const dry = copyOf(objects)
    const said = await prune({
      vault: await bench.open({ store: dry }),
      keep: { last: 1 },
      dryRun: true,
      signal
    })
    assert.deepEqual([...dry.objects], [...objects])
    const real = copyOf(objects)
    const before = [...real.objects.values()].reduce((sum, { content }) => sum + content.length, 0)
    const done = await prune({ vault: await bench.open({ store: real }), keep: { last: 1 }, signal })
    assert.deepEqual(said, done)
    assert.equal(done.removed.length, 2)
    const after = [...real.objects.values()].reduce((sum, { content }) => sum + content.length, 0)
    assert.ok(done.freedBytes > 0 && done.freedBytes < before - after)
  })

  it('writes packs of which little is needed anew, and their references stay valid', async () => {
    const first = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    const { objects, taken } = await makeHistory(
      [first, first.map((fill, index) => (index === 3 ? fill : fill + 20))],
      16
    )
    const store = copyOf(objects)
    const report = await prune({ vault: await bench.open({ store }), keep: { last: 1 }, signal })
    assert.equal(report.compactedPacks, 1)
    assert.equal(packNames(store).filter((name) => name.endsWith('.2')).length, 1)
    await mustBeWhole(await bench.open({ store }), [taken[1]?.id ?? ''])
    // And the next one is taken against it.
    const vault = await bench.open({ store })
    const next = await bench.backUp(
      vault,
      diskOf([1, ...first.slice(1).map((fill, index) => (index === 2 ? fill : fill + 20))]),
      { parent: taken[1] }
    )
    await mustBeWhole(vault, [next.id])
  })

  it('is whole wherever it is cut short, and the next run ends in the same state', async () => {
    const days = [
      [1, 2, 3, 4, 5, 6, 7, 8],
      [1, 2, 13, 4, 5, 6, 7, 8],
      [21, 22, 23, 4, 25, 26, 27, 8],
      [31, 22, 23, 4, 25, 26, 27, 8]
    ]
    const { objects, taken } = await makeHistory(days, 9)
    // What a backup that was killed left behind: packs that no manifest knows.
    const orphaned = copyOf(objects)
    const { vmKey } = await bench.open({ store: orphaned })
    await new PlainWriter({ store: orphaned, vm: bench.vm, vmKey }).write(diskOf([50, 51, 52]))
    const keep = { last: 2 }
    const kept = taken.slice(2).map(({ id }) => id)

    const whole = copyOf(orphaned.objects)
    const report = await prune({ vault: await bench.open({ store: whole }), keep, signal })
    assert.ok(report.compactedPacks > 0 && report.removedPacks > 0)
    const expected = [...whole.objects.keys()].sort()
    const calls = whole.calls.length

    let cuts = 0
    for (const moment of ['before', 'after'] as const)
      for (let at = 1; at <= calls; at++) {
        let made = 0
        const crash = () => {
          if (++made >= at) throw new Error('killed')
        }
        const store = copyOf(orphaned.objects, { [moment]: crash })
        await assert.rejects(
          bench.open({ store }).then((vault) => prune({ vault, keep, signal })),
          /killed/
        )
        const survived = copyOf(store.objects)
        const vault = await bench.open({ store: survived })
        const present = (await vault.snapshots({ signal })).map(({ id }) => id)
        assert.ok(kept.every((id) => present.includes(id)))
        await mustBeWhole(vault, present)
        await prune({ vault, keep, signal })
        assert.deepEqual([...survived.objects.keys()].sort(), expected)
        await mustBeWhole(await bench.open({ store: survived }), kept)
        cuts++
      }
    assert.equal(cuts, 2 * calls)
  })

  it('does nothing the second time', async () => {
    const { objects } = await makeHistory(
      [
        [1, 2, 3, 4],
        [1, 2, 3, 5],
        [6, 7, 3, 9]
      ],
      8
    )
    const store = copyOf(objects)
    const vault = await bench.open({ store })
    await prune({ vault, keep: { last: 2 }, signal })
    const again = await prune({ vault, keep: { last: 2 }, signal })
    assert.deepEqual(
      [again.removed, again.freedBytes, again.removedPacks, again.compactedPacks],
      [[], 0, 0, 0]
    )
  })

  it('removes nothing while it is not known what a snapshot needs, unless that is given up', async () => {
    const { objects, taken } = await makeHistory(
      [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
        [9, 9, 8, 7]
      ],
      8
    )
    const [first, second, third] = taken
    assert.ok(first && second && third)
    const damages: ((store: MemoryStore) => void)[] = [
      (store) => {
        const manifest = store.objects.get(`vms/${bench.vm}/snapshots/${second.id}.json`)
        assert.ok(manifest)
        manifest.content = manifest.content.slice(0, 100)
      },
      (store) =>
        void store.objects.delete(
          `vms/${bench.vm}/packs/${Buffer.from(second.disk.root?.pack ?? []).toString('hex')}.1`
        )
    ]
    for (const damage of damages) {
      const store = copyOf(objects)
      damage(store)
      const before = [...store.objects.keys()]
      const vault = await bench.open({ store })
      await assert.rejects(prune({ vault, keep: { last: 2 }, signal }), { code: 'E_CORRUPT' })
      assert.deepEqual([...store.objects.keys()], before)
      const report = await prune({ vault, keep: { last: 2 }, removeDamaged: true, signal })
      assert.deepEqual([[...report.kept], [...report.removed]], [[first.id, third.id], [second.id]])
      await mustBeWhole(await bench.open({ store }), [first.id, third.id])
    }
  })

  it('leaves a needed pack alone that it cannot look into', async () => {
    const { objects, taken } = await makeHistory(
      [
        [1, 2, 3, 4, 5],
        [1, 2, 3, 4, 6]
      ],
      4
    )
    const store = copyOf(objects)
    const name = `vms/${bench.vm}/packs/${Buffer.from(taken[0]?.disk.references.get(0)?.pack ?? []).toString('hex')}.1`
    const object = store.objects.get(name)
    assert.ok(object)
    object.content = object.content.slice(0, -1)
    const report = await prune({ vault: await bench.open({ store }), keep: { last: 1 }, signal })
    assert.deepEqual(report.damagedPacks, [name])
    assert.ok(store.objects.has(name))
  })

  it('asks for the lock before it removes snapshots, and again before it removes packs', async () => {
    const { objects } = await makeHistory(
      [
        [1, 2, 3],
        [4, 5, 6],
        [7, 8, 9]
      ],
      8
    )
    const isPack = (name: string) => parsePackName(bench.vm, name) !== undefined
    for (const asked of [1, 2]) {
      const store = copyOf(objects)
      const vault = await bench.open({ store })
      let times = 0
      const confirm = async () => {
        if (++times === asked) throw new Error('not ours any more')
      }
      await assert.rejects(prune({ vault, keep: { last: 1 }, confirm, signal }), /not ours any more/)
      const gone = [...objects.keys()].filter((name) => !store.objects.has(name))
      assert.equal(gone.length, asked === 1 ? 0 : 2)
      assert.equal(gone.filter(isPack).length, 0)
    }
    const store = copyOf(objects)
    const never = async () => assert.fail('nothing is removed')
    await prune({
      vault: await bench.open({ store }),
      keep: { last: 1 },
      dryRun: true,
      confirm: never,
      signal
    })
  })

  it('leaves alone what others write while it runs, even where the lock was lost without a sign', async () => {
    const { objects, taken } = await makeHistory(
      [
        [1, 2],
        [3, 4],
        [5, 6]
      ],
      8
    )
    const keep = { last: 1 }
    const alone = copyOf(objects)
    await prune({ vault: await bench.open({ store: alone }), keep, signal })
    for (let at = 1; at <= alone.calls.length; at++) {
      let calls = 0
      let id = ''
      const another = new MemoryStore({}, copyOf(objects).objects)
      const store = new MemoryStore(
        {
          before: async () => {
            if (++calls !== at) return
            const options = { parent: taken[2], at: start + 9 * dayMs }
            id = (await bench.backUp(await bench.open({ store: another }), diskOf([7, 6]), options)).id
          }
        },
        another.objects
      )
      await prune({ vault: await bench.open({ store }), keep, signal })
      assert.notEqual(id, '')
      await mustBeWhole(await bench.open({ store: another }), [id])
    }
  })

  it('makes no fault of a download last: what it writes anew is what it has checked', async () => {
    const first = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    const second = first.map((fill, index) => (index === 3 ? fill : fill + 20))
    const { objects, taken } = await makeHistory([first, second], 16)
    const store = copyOf(objects)
    const get = store.get.bind(store)
    let flipped = ''
    store.get = async (name, wait) => {
      const content = await get(name, wait)
      if (flipped === '' && parsePackName(bench.vm, name) !== undefined && wait.range === undefined) {
        flipped = name
        // In every entry, and neither in the header nor in the table.
        for (let at = 32; at < content.length - 300; at += 40) content[at] = (content[at] ?? 0) ^ 1
      }
      return content
    }
    const keep = { last: 1 }
    const report = await prune({ vault: await bench.open({ store }), keep, signal })
    assert.notEqual(flipped, '')
    assert.deepEqual([report.compactedPacks, report.damagedPacks], [0, [flipped]])
    await mustBeWhole(await bench.open({ store }), [taken[1]?.id ?? ''])
    const again = await prune({ vault: await bench.open({ store }), keep, signal })
    assert.deepEqual([again.compactedPacks, again.damagedPacks], [1, []])
    await mustBeWhole(await bench.open({ store }), [taken[1]?.id ?? ''])
  })

  it('stops at once when the lock is lost', async () => {
    const { objects } = await makeHistory(
      [
        [1, 2],
        [3, 4],
        [5, 6]
      ],
      8
    )
    const lock = new AbortController()
    const store = copyOf(objects, {
      after: (call) => {
        if (call === 'remove') lock.abort(new Error('lock lost'))
      }
    })
    const vault = await bench.open({ store })
    await assert.rejects(prune({ vault, keep: { last: 1 }, signal: lock.signal }), /lock lost/)
    assert.equal(store.objects.size, objects.size - 1)
  })
})
