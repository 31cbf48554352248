// The operator's terminal while a console has it: raw, and as it was before on every way out.

/** How long answers of the terminal to what a guest has asked it are thrown away, so that no shell is typed them. */
const settleMs = 100
/** Soft reset, cursor shown, no mouse and no bracketed paste: what a guest may have switched on (DECSTR, xterm). */
const calm = '\x1b[!p\x1b[0m\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l'
const leaveAlternate = '\x1b[?1049l'

export interface TerminalOptions {
  readonly input: NodeJS.ReadStream
  readonly output: NodeJS.WriteStream
  sleep(ms: number): Promise<void>
}

export class Terminal {
  readonly #options: TerminalOptions
  #isRaw = false
  #isAlternate = false

  constructor(options: TerminalOptions) {
    this.#options = options
  }

  /** Hands over every key as it is pressed. */
  begin(onKeys: (keys: Buffer) => void): void {
    const { input } = this.#options
    this.#isRaw = true
    input.setRawMode(true)
    process.once('exit', this.#restore)
    input.on('data', onKeys)
    input.resume()
  }

  pause(): void {
    this.#options.input.pause()
  }

  resume(): void {
    this.#options.input.resume()
  }

  /** Notes what the guest makes of the screen. */
  note(shown: Buffer): void {
    const last = shown.toString('latin1').lastIndexOf('\x1b[?1049')
    const letter = last < 0 ? undefined : shown[last + 7]
    if (letter === 0x68) this.#isAlternate = true
    else if (letter === 0x6c) this.#isAlternate = false
  }

  async end(): Promise<void> {
    const { input, output, sleep } = this.#options
    if (!this.#isRaw) return
    input.removeAllListeners('data')
    if (output.isTTY) output.write((this.#isAlternate ? leaveAlternate : '') + calm)
    input.on('data', () => undefined)
    input.resume()
    await sleep(settleMs)
    input.removeAllListeners('data')
    this.#restore()
    input.pause()
    process.off('exit', this.#restore)
  }

  #restore = (): void => {
    if (this.#isRaw) this.#options.input.setRawMode(false)
    this.#isRaw = false
  }
}
