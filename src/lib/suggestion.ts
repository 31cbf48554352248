// The word that was probably meant: the nearest of those known, if it is near enough to be a slip.

/** Longer words are no slips of the words that we know. */
const wordCharactersMax = 64

/** The known word at the smallest edit distance, or undefined when none is near. */
export function suggestion(given: string, known: readonly string[]): string | undefined {
  if (given.length > wordCharactersMax) return undefined
  const near = Math.max(1, Math.floor(given.length / 3))
  const ranked = known
    .map((word) => ({ word, distance: editDistance(given.toLowerCase(), word.toLowerCase()) }))
    .filter(({ distance }) => distance <= near)
    .toSorted((a, b) => a.distance - b.distance)
  return ranked[0]?.word
}

/** Insertions, deletions, replacements and swaps of neighbours that turn one word into the other. */
export function editDistance(from: string, to: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (let row = 1; row <= from.length; row++) {
    const current = [row]
    for (let column = 1; column <= to.length; column++) {
      const same = from[row - 1] === to[column - 1]
      let best = Math.min(
        cell(last, column) + 1,
        cell(current, column - 1) + 1,
        cell(last, column - 1) + (same ? 0 : 1)
      )
      const swapped =
        row > 1 && column > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1]
      if (swapped) best = Math.min(best, cell(beforeLast, column - 2) + 1)
      current.push(best)
    }
    beforeLast = last
    last = current
  }
  return cell(last, to.length)
}

function cell(row: readonly number[], index: number): number {
  return row[index] ?? 0
}
