// Which bytes of a read have been answered: each once, none outside, all in the end.

/** Runs that lie apart at one time. In-order replies need one; more than this is no honest server. */
const runsMax = 1_024

interface Run {
  start: number
  end: number
}

export class Coverage {
  readonly #length: number
  readonly #runs: Run[] = []

  constructor(length: number) {
    this.#length = length
  }

  get complete(): boolean {
    const first = this.#runs[0]
    return first !== undefined && first.start === 0 && first.end === this.#length
  }

  /** Takes a range relative to the request. False when it is empty, lies outside, was answered before, or leaves too many gaps. */
  add(start: number, length: number): boolean {
    const end = start + length
    if (!(length > 0 && start >= 0 && end <= this.#length)) return false
    const runs = this.#runs
    let index = runs.length
    for (let run = runs[index - 1]; run !== undefined && run.start >= start; run = runs[index - 1]) index--
    const before = runs[index - 1]
    const after = runs[index]
    if ((before !== undefined && before.end > start) || (after !== undefined && after.start < end))
      return false
    const joinsBefore = before?.end === start
    const joinsAfter = after?.start === end
    if (joinsBefore && joinsAfter) {
      before.end = after.end
      runs.splice(index, 1)
    } else if (joinsBefore) before.end = end
    else if (joinsAfter) after.start = start
    else if (runs.length >= runsMax) return false
    else runs.splice(index, 0, { start, end })
    return true
  }
}
