// What every packet filter port must do, whichever carries it: the suite that keeps the one in memory honest.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { countsIn, digestOf, sizeOf } from '../../src/agent/firewall/listing.ts'
import type { Nft } from '../../src/agent/firewall/nft.ts'
import type { NftCommand, NftObject } from '../../src/agent/firewall/nft-json.ts'
import { renderRemoval } from '../../src/agent/firewall/ruleset.ts'

export interface NftSubject {
  readonly nft: Nft
  /** A table that nobody else has. */
  readonly table: string
  dispose(): Promise<void>
}

export function describeNft(
  title: string,
  options: { skip?: string | false; open: () => Promise<NftSubject> }
): void {
  describe(`contract of the packet filter: ${title}`, { skip: options.skip }, () => {
    let subject: NftSubject
    before(async () => {
      subject = await options.open()
    })
    after(async () => {
      await subject?.nft.apply(renderRemoval(subject.table), wait())
      await subject?.dispose()
    })

    it('has nothing of a table that nobody made', async () => {
      const { nft, table } = subject
      assert.deepEqual(await nft.read(table, wait()), [])
    })

    it('applies a table whole, and the next one in its place', async () => {
      const { nft, table } = subject
      await nft.apply(tableOf(table, ['one', 'two']), wait())
      const first = await nft.read(table, wait())
      assert.equal(sizeOf(first), '4 rules, 2 members')
      assert.equal(sizeOf(first), sizeOf(given(tableOf(table, ['one', 'two']))))
      await nft.apply(tableOf(table, ['three']), wait())
      const second = await nft.read(table, wait())
      assert.equal(sizeOf(second), '2 rules, 2 members')
      assert.notEqual(digestOf(first), digestOf(second))
      await nft.apply(tableOf(table, ['three']), wait())
      assert.equal(digestOf(await nft.read(table, wait())), digestOf(second))
    })

    it('applies nothing of a transaction of which a part is refused', async () => {
      const { nft, table } = subject
      await nft.apply(tableOf(table, ['kept']), wait())
      const before = digestOf(await nft.read(table, wait()))
      const wrong = [...tableOf(table, ['new']), { add: element(table, 'no-such-set', []) }]
      assert.equal(await nft.check(wrong, wait()), false)
      await assert.rejects(nft.apply(wrong, wait()), { code: 'E_UNAVAILABLE' })
      assert.equal(digestOf(await nft.read(table, wait())), before)
    })

    it('checks without a change', async () => {
      const { nft, table } = subject
      const before = digestOf(await nft.read(table, wait()))
      assert.equal(await nft.check(tableOf(table, ['other']), wait()), true)
      assert.equal(digestOf(await nft.read(table, wait())), before)
    })

    it('keeps counts that are given, which make no other rules', async () => {
      const { nft, table } = subject
      await nft.apply(tableOf(table, ['a'], { packets: 3, bytes: 300 }), wait())
      const objects = await nft.read(table, wait())
      assert.deepEqual(countsIn(objects).get('inet drops'), { packets: 3, bytes: 300 })
      await nft.apply(tableOf(table, ['a']), wait())
      assert.equal(digestOf(await nft.read(table, wait())), digestOf(objects))
    })

    it('tells of changes to the table', async () => {
      const { nft, table } = subject
      await nft.apply(tableOf(table, ['a']), wait())
      let told = Promise.withResolvers<void>()
      await using _watch = nft.watch(table, () => told.resolve())
      // A watch takes a moment to begin: it is given something to see until it sees.
      await until(told.promise, () => nft.apply(tableOf(table, ['b']), wait()))
      told = Promise.withResolvers<void>()
      await until(told.promise, () => nft.apply(renderRemoval(table), wait()))
      assert.deepEqual(await nft.read(table, wait()), [])
    })

    it('removes what is there, and what is not', async () => {
      const { nft, table } = subject
      await nft.apply(tableOf(table, ['a']), wait())
      await nft.apply(renderRemoval(table), wait())
      await nft.apply(renderRemoval(table), wait())
      assert.deepEqual(await nft.read(table, wait()), [])
    })
  })
}

async function until(told: Promise<void>, change: () => Promise<void>): Promise<void> {
  let isTold = false
  void told.then(() => {
    isTold = true
  })
  for (const { signal } = wait(); !isTold; ) {
    signal.throwIfAborted()
    await change()
    await Promise.race([told, new Promise((resolve) => setTimeout(resolve, 50))])
  }
}

function tableOf(table: string, chains: readonly string[], counts = { packets: 0, bytes: 0 }): NftCommand[] {
  const named = { table: { family: 'inet', name: table } }
  const at = { family: 'inet', table }
  return [
    { add: named },
    { delete: named },
    { add: named },
    { add: { counter: { ...at, name: 'drops', ...counts } } },
    { add: { set: { ...at, name: 'addresses', type: 'ipv4_addr' } } },
    { add: element(table, 'addresses', ['192.0.2.1', '192.0.2.2', '192.0.2.1']) },
    { add: { set: { ...at, name: 'ranges', type: 'ipv4_addr', flags: ['interval'], 'auto-merge': true } } },
    { add: element(table, 'ranges', [{ range: ['192.0.2.0', '192.0.2.7'] }, '192.0.2.8']) },
    ...chains.flatMap((name) => [
      { add: { chain: { ...at, name } } },
      { add: { rule: { ...at, chain: name, expr: [{ counter: 'drops' }, { drop: null }] } } }
    ])
  ]
}

function given(commands: readonly NftCommand[]): NftObject[] {
  return commands.flatMap((command) => ('add' in command ? [command.add] : []))
}

function element(table: string, name: string, elem: readonly unknown[]) {
  return { element: { family: 'inet', table, name, elem } }
}

function wait() {
  return { signal: AbortSignal.timeout(60_000) }
}
