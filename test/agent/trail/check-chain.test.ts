// Whatever is done to the files of a trail is found, at the line where it was done.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { checkChain, type FaultKind } from '../../../src/agent/trail/check-chain.ts'
import { segmentName } from '../../../src/agent/trail/segments.ts'
import { sealEntry } from '../../../src/lib/chain.ts'
import { contentOf, type MadeFile, MemoryTrail, madeTrail, type Place, placeOfLine } from './made-trail.ts'

const sizes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 })
const runs = { numRuns: 400 }

function check(trail: MemoryTrail) {
  return checkChain(trail.segments, { read: (segment) => trail.read(segment) })
}

function assertFault(trail: MemoryTrail, place: Place, kinds: readonly FaultKind[]): void {
  const { fault } = check(trail)
  assert.ok(fault, 'no fault was found')
  assert.deepEqual({ file: fault.file, line: fault.line, offset: fault.offset }, place, fault.message)
  assert.ok(kinds.includes(fault.kind), `${fault.kind}: ${fault.message}`)
}

const allLines = (files: readonly MadeFile[]) => files.flatMap(({ lines }) => lines)
/** The same files with other lines: as many as before in each but the last. */
function withLines(files: readonly MadeFile[], lines: readonly string[]): MadeFile[] {
  let from = 0
  return files.map(({ name, lines: { length } }, index) => {
    const piece = lines.slice(from, index === files.length - 1 ? undefined : from + length)
    from += length
    return { name, lines: [...piece] }
  })
}

describe('a chain of lines', () => {
  it('is whole as it was written, in however many files', () => {
    fc.assert(
      fc.property(sizes, (of) => {
        const { files, links } = madeTrail(of)
        assert.deepEqual(check(new MemoryTrail(files)), { tail: links.at(-1), fault: undefined })
      }),
      { numRuns: 50 }
    )
  })

  it('shows any byte that was changed, in the line that it is of', () => {
    fc.assert(
      fc.property(sizes, fc.nat(), fc.integer({ min: 1, max: 255 }), (of, where, change) => {
        const { files } = madeTrail(of)
        const trail = new MemoryTrail(files)
        const lines = allLines(files)
        const ends = lines.map((_, index) => {
          const { file, offset } = placeOfLine(files, index)
          return { file, offset, index, bytes: Buffer.byteLength(lines[index] ?? '') + 1 }
        })
        const total = ends.reduce((sum, { bytes }) => sum + bytes, 0)
        let at = where % total
        const hit = ends.find(({ bytes }) => {
          if (at < bytes) return true
          at -= bytes
          return false
        })
        assert.ok(hit)
        const content = trail.contents.get(hit.file)
        assert.ok(content)
        content[hit.offset + at] = (content[hit.offset + at] ?? 0) ^ change
        assertFault(trail, placeOfLine(files, hit.index), ['changed', 'torn', 'inserted'])
      }),
      runs
    )
  })

  it('shows a line that was taken out, at the line after it', () => {
    fc.assert(
      fc.property(sizes, fc.nat(), (of, which) => {
        const { files } = madeTrail(of)
        const index = which % allLines(files).length
        let left = index
        const cut = files.map(({ name, lines }) => {
          const here = left
          left -= lines.length
          return { name, lines: lines.filter((_, at) => at !== here) }
        })
        const trail = new MemoryTrail(cut)
        // Nothing but what others hold of it shows that the end is gone.
        if (index === allLines(files).length - 1) assert.equal(check(trail).fault, undefined)
        else assertFault(trail, placeOfLine(cut, index), ['removed'])
      }),
      runs
    )
  })

  it('shows a line that was put in, a copy or anything', () => {
    const foreign = fc.oneof(
      fc.constant('copy' as const),
      fc.string({ maxLength: 200 }),
      fc.constant('forged')
    )
    fc.assert(
      fc.property(sizes, fc.nat(), fc.nat(), foreign, (of, where, which, text) => {
        const { files, links } = madeTrail(of)
        const lines = allLines(files)
        const index = where % (lines.length + 1)
        const before = links[index - 1]
        const forged = sealEntry(
          { at: 1, kind: 'forged', fields: {} },
          before ?? { seq: 0, hash: '0'.repeat(64) }
        ).line
        const copied = which % lines.length
        const line =
          text === 'copy' ? (lines[copied] ?? '') : text === 'forged' ? forged : text.replaceAll('\n', ' ')
        const file = files.length - 1
        const more = [...lines.slice(0, index), line, ...lines.slice(index)]
        // All in one file, so that every line is where it was put.
        const one = [{ name: segmentName(1), lines: more }]
        assert.ok(file >= 0)
        const isNext = line === lines[index]
        if (text === 'forged' && index === lines.length) return
        // A forged entry that follows from the one before shows at the true one, which then does not.
        const shown = isNext || text === 'forged' ? index + 1 : index
        assertFault(new MemoryTrail(one), placeOfLine(one, shown), ['inserted', 'changed'])
      }),
      runs
    )
  })

  it('shows lines that changed places, at the first of them', () => {
    fc.assert(
      fc.property(sizes, fc.nat(), fc.nat(), (of, one, other) => {
        const { files } = madeTrail(of)
        const lines = allLines(files)
        const [from, to] = [one % lines.length, other % lines.length].sort((a, b) => a - b)
        if (from === undefined || to === undefined || from === to) return
        const swapped = lines.with(from, lines[to] ?? '').with(to, lines[from] ?? '')
        const trail = new MemoryTrail(withLines(files, swapped))
        assertFault(trail, placeOfLine(withLines(files, swapped), from), ['reordered', 'renamed'])
      }),
      runs
    )
  })

  it('shows a file that was renamed or is gone', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 2, max: 4 }), { minLength: 2, maxLength: 4 }),
        fc.nat(),
        fc.integer({ min: 0, max: 40 }),
        (of, which, number) => {
          const { files } = madeTrail(of)
          const at = which % files.length
          const file = files[at]
          assert.ok(file)
          const name = segmentName(number)
          if (files.some((each) => each.name === name)) return
          const renamed = new MemoryTrail(files.with(at, { ...file, name }))
          assertFault(renamed, { file: name, line: 1, offset: 0 }, ['renamed'])
          const next = files[at + 1]
          const without = new MemoryTrail(files.toSpliced(at, 1))
          if (next === undefined) assert.equal(check(without).fault, undefined)
          else assertFault(without, { file: next.name, line: 1, offset: 0 }, ['removed'])
        }
      ),
      runs
    )
  })

  it('shows the end of a file cut off at any byte, unless it was the end of the last entry', () => {
    const { files } = madeTrail([3, 2])
    for (const [at, file] of files.entries()) {
      const content = contentOf(file)
      const ends = file.lines.map((_, index) => placeOfLine([file], index).offset).concat(content.length)
      for (let length = 0; length < content.length; length++) {
        const trail = new MemoryTrail(files)
        trail.contents.set(file.name, content.subarray(0, length))
        const line = ends.filter((offset) => offset <= length).length
        const place = { file: file.name, line, offset: ends[line - 1] ?? 0 }
        const next = files[at + 1]
        if (!ends.includes(length)) assertFault(trail, place, next === undefined ? ['torn'] : ['changed'])
        else if (next === undefined) assert.equal(check(trail).fault, undefined)
        else assertFault(trail, { file: next.name, line: 1, offset: 0 }, ['removed'])
      }
    }
  })

  it('shows what was written anew from some entry on only where others hold on to it', () => {
    const before = madeTrail([4])
    const anew = madeTrail([4], (seq) => ({ vm: seq < 3 ? `web-${seq}` : 'another' }))
    assert.equal(check(new MemoryTrail(anew.files)).fault, undefined)
    const lines = [...allLines(before.files).slice(0, 3), ...allLines(anew.files).slice(3)]
    const mixed = [{ name: segmentName(1), lines }]
    assertFault(new MemoryTrail(mixed), placeOfLine(mixed, 3), ['changed'])
  })
})
