// How far a transfer of this process is: one line drawn again on a terminal, a line a tenth elsewhere.

import type { Cli } from '../cli.ts'
import { transferText } from '../follow.ts'
import { LiveBlock } from '../live-block.ts'
import { cut, plain } from '../table.ts'

const drawEveryMs = 200
const tenths = 10

export class ProgressLine implements Disposable {
  readonly #cli: Cli
  readonly #title: string
  readonly #block: LiveBlock
  readonly #startedMs: number
  #drawnMs = Number.NEGATIVE_INFINITY
  #toldTenth = 0

  constructor(cli: Cli, title: string) {
    this.#cli = cli
    this.#title = title
    this.#block = new LiveBlock((text) => cli.writeNote(text))
    this.#startedMs = cli.clock.monotonic()
  }

  /** May be called often, draws seldom. */
  tell({ doneBytes, totalBytes }: { readonly doneBytes: number; readonly totalBytes: number }): void {
    const nowMs = this.#cli.clock.monotonic()
    const tenth = totalBytes === 0 ? tenths : Math.floor((doneBytes / totalBytes) * tenths)
    if (this.#cli.noteTerminal ? nowMs - this.#drawnMs < drawEveryMs : tenth <= this.#toldTenth) return
    this.#drawnMs = nowMs
    this.#toldTenth = tenth
    const elapsedMs = nowMs - this.#startedMs
    const bytesPerSecond = elapsedMs <= 0 ? 0 : Math.round((doneBytes / elapsedMs) * 1_000)
    const remainingMs =
      doneBytes === 0 ? undefined : Math.round((elapsedMs / doneBytes) * (totalBytes - doneBytes))
    const text = transferText({
      ...{ doneBytes, totalBytes, bytesPerSecond },
      ...(remainingMs === undefined ? {} : { remainingMs })
    })
    if (this.#cli.noteTerminal)
      this.#block.draw([cut(plain(`${this.#title}  ${text}`), this.#cli.noteWidth - 1)], 1)
    else this.#cli.note(`${this.#title}: ${text}`)
  }

  [Symbol.dispose](): void {
    this.#block.clear()
  }
}
