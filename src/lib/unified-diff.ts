// The difference of two texts in lines, as `diff -u` writes it.

const contextLines = 3
/** Beyond so many comparisons the texts are shown as wholly different: nobody reads such a difference. */
const comparisonsMax = 4_000_000

type Edit = { readonly kind: ' ' | '-' | '+'; readonly line: string }

export interface DiffNames {
  readonly before: string
  readonly after: string
}

/** Empty where the texts are the same. An undefined text is one that is not there. */
export function unifiedDiff(before: string | undefined, after: string | undefined, names: DiffNames): string {
  if (before === after) return ''
  const edits = editsOf(linesOf(before), linesOf(after))
  const none = '/dev/null'
  const head = [
    `--- ${before === undefined ? none : names.before}`,
    `+++ ${after === undefined ? none : names.after}`
  ]
  return [...head, ...hunksOf(edits), ''].join('\n')
}

function linesOf(text: string | undefined): readonly string[] {
  if (text === undefined || text === '') return []
  return (text.endsWith('\n') ? text.slice(0, -1) : text).split('\n')
}

/** By the longest common subsequence: of the common ends only what lies between is compared. */
function editsOf(before: readonly string[], after: readonly string[]): readonly Edit[] {
  const head = commonLength(before, after, (list, at) => list[at])
  const restBefore = before.slice(head)
  const restAfter = after.slice(head)
  const tail = commonLength(restBefore, restAfter, (list, at) => list[list.length - 1 - at])
  return [
    ...before.slice(0, head).map(kept),
    ...changesOf(restBefore.slice(0, restBefore.length - tail), restAfter.slice(0, restAfter.length - tail)),
    ...before.slice(before.length - tail).map(kept)
  ]
}

function commonLength(
  before: readonly string[],
  after: readonly string[],
  at: (list: readonly string[], index: number) => string | undefined
): number {
  const shorter = Math.min(before.length, after.length)
  let length = 0
  while (length < shorter && at(before, length) === at(after, length)) length++
  return length
}

function changesOf(before: readonly string[], after: readonly string[]): readonly Edit[] {
  if (before.length * after.length > comparisonsMax) return [...before.map(removed), ...after.map(added)]
  const lengths = commonLengths(before, after)
  const width = after.length + 1
  const edits: Edit[] = []
  let left = 0
  let right = 0
  while (left < before.length || right < after.length) {
    const down = lengths[(left + 1) * width + right] ?? -1
    const across = lengths[left * width + right + 1] ?? -1
    if (left < before.length && right < after.length && before[left] === after[right]) {
      edits.push(kept(before[left] ?? ''))
      left++
      right++
    } else if (right >= after.length || (left < before.length && down >= across))
      edits.push(removed(before[left++] ?? ''))
    else edits.push(added(after[right++] ?? ''))
  }
  return edits
}

/** Of the longest common subsequence of what is left from each pair of places on. */
function commonLengths(before: readonly string[], after: readonly string[]): Uint32Array {
  const width = after.length + 1
  const lengths = new Uint32Array((before.length + 1) * width)
  for (let left = before.length - 1; left >= 0; left--)
    for (let right = after.length - 1; right >= 0; right--)
      lengths[left * width + right] =
        before[left] === after[right]
          ? (lengths[(left + 1) * width + right + 1] ?? 0) + 1
          : Math.max(lengths[(left + 1) * width + right] ?? 0, lengths[left * width + right + 1] ?? 0)
  return lengths
}

function hunksOf(edits: readonly Edit[]): readonly string[] {
  const shown = new Set(
    edits.flatMap(({ kind }, at) =>
      kind === ' ' ? [] : Array.from({ length: 2 * contextLines + 1 }, (_, by) => at - contextLines + by)
    )
  )
  const lines: string[] = []
  let [left, right] = [1, 1]
  for (let at = 0; at < edits.length; ) {
    const hunk = []
    for (let end = at; end < edits.length && shown.has(end); end++) hunk.push(edits[end])
    const { minus, plus } = countsOf(hunk)
    if (hunk.length > 0) {
      lines.push(`@@ -${place(left, minus)} +${place(right, plus)} @@`)
      lines.push(...hunk.map((edit) => `${edit?.kind}${edit?.line}`))
    }
    left += hunk.length > 0 ? minus : 1
    right += hunk.length > 0 ? plus : 1
    at += Math.max(1, hunk.length)
  }
  return lines
}

function countsOf(hunk: readonly (Edit | undefined)[]): { minus: number; plus: number } {
  return {
    minus: hunk.filter((edit) => edit?.kind !== '+').length,
    plus: hunk.filter((edit) => edit?.kind !== '-').length
  }
}

/** A range of no lines stands behind the line before it. */
function place(from: number, count: number): string {
  const start = count === 0 ? from - 1 : from
  return count === 1 ? `${start}` : `${start},${count}`
}

function kept(line: string): Edit {
  return { kind: ' ', line }
}

function removed(line: string): Edit {
  return { kind: '-', line }
}

function added(line: string): Edit {
  return { kind: '+', line }
}
