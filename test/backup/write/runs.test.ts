// What is done with each block, from extents that begin and end anywhere, against the plainest model: byte by byte.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { blockBytes, type Extent } from '../../../src/backup/disk.ts'
import { nodeSlots } from '../../../src/backup/format/node.ts'
import { piecesOf } from '../../../src/backup/write/pieces.ts'
import { type BlockAction, planRuns, type Run, type RunOptions } from '../../../src/backup/write/runs.ts'

async function plan(extents: readonly Extent[], options: RunOptions): Promise<Run[]> {
  const runs: Run[] = []
  for await (const run of planRuns(stream(extents), options)) runs.push(run)
  return runs
}

async function* stream(extents: readonly Extent[]) {
  yield* extents
}

function spread(runs: readonly Run[]): BlockAction[] {
  return runs.flatMap(({ count, action }) => new Array<BlockAction>(count).fill(action))
}

const anyExtent = fc.record({
  length: fc.oneof(
    fc.integer({ min: 1, max: 3 * blockBytes }),
    fc.integer({ min: 1, max: 3 }).map((n) => n * blockBytes)
  ),
  zero: fc.boolean(),
  dirty: fc.boolean()
})

function actionOf(
  touching: readonly Extent[],
  block: number,
  { tracking, sizeBytes, parentSizeBytes }: RunOptions
) {
  const fresh = touching.some(({ zero }) => !zero) ? 'read' : 'zero'
  const inParent = (block + 1) * blockBytes <= Math.min(sizeBytes, parentSizeBytes)
  const unknown = sizeBytes !== parentSizeBytes && !inParent
  return tracking === 'changed' && !unknown && !touching.some(({ dirty }) => dirty) ? 'keep' : fresh
}

test('keeps, empties or reads each block as the extents that touch it say', async () => {
  const anyTracking = fc.constantFrom('all' as const, 'changed' as const, 'compare' as const)
  await fc.assert(
    fc.asyncProperty(
      fc.array(anyExtent, { maxLength: 12 }),
      anyTracking,
      fc.option(fc.nat(1_500_000)),
      async (parts, tracking, parent) => {
        let sizeBytes = 0
        const extents = parts.map((part): Extent => {
          const extent = { ...part, offset: sizeBytes }
          sizeBytes += part.length
          return extent
        })
        const options = { sizeBytes, tracking, parentSizeBytes: parent ?? sizeBytes }
        const runs = await plan(extents, options)
        const blocks = Math.ceil(sizeBytes / blockBytes)
        const expected = Array.from({ length: blocks }, (_, block) => {
          const end = (block + 1) * blockBytes
          const touching = extents.filter(
            ({ offset, length }) => offset < end && offset + length > block * blockBytes
          )
          return actionOf(touching, block, options)
        })
        assert.deepEqual(spread(runs), expected)
        runs.forEach((run, index) => {
          assert.notEqual(run.action, runs[index - 1]?.action, 'neighbours are merged')
        })
      }
    ),
    { numRuns: 500 }
  )
})

test('a block that the end of the disk cuts, or did in the parent, is read although it is clean', async () => {
  const clean = (length: number): Extent => ({ offset: 0, length, zero: false, dirty: false })
  const cut = 2 * blockBytes + 512
  const whole = 4 * blockBytes
  const shrunk = await plan([clean(cut)], { sizeBytes: cut, parentSizeBytes: whole, tracking: 'changed' })
  assert.deepEqual(spread(shrunk), ['keep', 'keep', 'read'])
  const grown = await plan([clean(whole)], { sizeBytes: whole, parentSizeBytes: cut, tracking: 'changed' })
  assert.deepEqual(spread(grown), ['keep', 'keep', 'read', 'read'])
})

test('cuts runs into whole leaves and parts of one leaf, in order and without gaps', () => {
  const anyRun = fc.record({
    first: fc.nat(3 * nodeSlots),
    count: fc.integer({ min: 1, max: 4 * nodeSlots })
  })
  fc.assert(
    fc.property(
      anyRun,
      fc.constantFrom('keep' as const, 'zero' as const, 'read' as const),
      fc.boolean(),
      fc.boolean(),
      (run, action, toEnd, keepsEnd) => {
        const end = run.first + run.count
        const blocks = toEnd ? end : end + 1
        let at = run.first
        for (const piece of piecesOf({ ...run, action }, { blocks, keepsEnd })) {
          assert.equal(piece.action, action)
          if (piece.kind === 'leaves') {
            assert.notEqual(action, 'read')
            assert.equal(piece.first * nodeSlots, at)
            at = Math.min((piece.first + piece.count) * nodeSlots, blocks)
            const reachesBeyond = (piece.first + piece.count) * nodeSlots > end
            assert.ok(!reachesBeyond || (toEnd && (action === 'zero' || keepsEnd)))
          } else {
            assert.equal(piece.first, at)
            assert.equal(Math.floor(at / nodeSlots), Math.floor((at + piece.count - 1) / nodeSlots))
            at += piece.count
          }
        }
        assert.equal(at, end)
      }
    )
  )
})
