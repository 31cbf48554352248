// Lines on a terminal that are drawn again in place, for as long as something goes on.

/** Puts a new set of lines where the last one stood. The caller keeps each line within the terminal's width. */
export class LiveBlock {
  readonly #write: (text: string) => void
  #linesDrawn = 0

  constructor(write: (text: string) => void) {
    this.#write = write
  }

  /** Lines beyond `rowsMax` are left out: what has scrolled away can't be drawn again. */
  draw(lines: readonly string[], rowsMax: number): void {
    const shown = lines.slice(0, Math.max(1, rowsMax))
    // Each line is cleared behind its text, not before it, so that nothing flickers.
    this.#write(`${this.#home()}${shown.map((line) => `${line}\x1b[K\n`).join('')}\x1b[J`)
    this.#linesDrawn = shown.length
  }

  /** Takes the lines away. */
  clear(): void {
    if (this.#linesDrawn > 0) this.#write(`${this.#home()}\x1b[J`)
    this.#linesDrawn = 0
  }

  #home(): string {
    return this.#linesDrawn === 0 ? '' : `\x1b[${this.#linesDrawn}A\r`
  }
}
