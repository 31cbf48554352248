// Secrets that a person types, which the terminal does not show, or that another program hands over, a line each.

import { HostletError } from '../errors.ts'
import type { Cli } from './cli.ts'
import { Interrupted } from './cli.ts'

const charactersMax = 1_024

export class SecretInput {
  readonly #cli: Cli
  readonly #stdin: NodeJS.ReadStream
  #lines: AsyncIterator<string> | undefined

  constructor(cli: Cli, stdin: NodeJS.ReadStream = process.stdin) {
    this.#cli = cli
    this.#stdin = stdin
  }

  /** Asks on a terminal; else the next line of the standard input. Throws E_BAD_REQUEST where nothing comes, and the signal's reason. */
  async ask(question: string, signal: AbortSignal): Promise<string> {
    const text = this.#stdin.isTTY ? await this.#typed(question, signal) : await this.#nextLine(signal)
    if (text !== '') return text
    throw new HostletError(
      'E_BAD_REQUEST',
      `${question.replace(/:? *$/, '')}: nothing was entered. Type it, or hand it over on the standard input.`
    )
  }

  async #typed(question: string, signal: AbortSignal): Promise<string> {
    const stdin = this.#stdin
    // Before the question: what is typed at once is not shown either.
    stdin.setRawMode(true)
    stdin.setEncoding('utf8')
    this.#cli.writeNote(question)
    try {
      return await typedLine(stdin, signal)
    } finally {
      stdin.setRawMode(false)
      stdin.pause()
      this.#cli.writeNote('\n')
    }
  }

  async #nextLine(signal: AbortSignal): Promise<string> {
    this.#lines ??= linesOf(this.#stdin, signal)
    const { value, done } = await this.#lines.next()
    return done === true ? '' : value.trim()
  }
}

/** A raw terminal hands over every key, Ctrl-C too. */
function typedLine(stdin: NodeJS.ReadStream, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const end = (settle: () => void) => {
      stdin.off('data', take)
      signal.removeEventListener('abort', abort)
      settle()
    }
    const abort = () => end(() => reject(signal.reason))
    const take = (data: string) => {
      for (const character of data) {
        if (character === '\u0003') return end(() => reject(new Interrupted()))
        if (character === '\r' || character === '\n' || character === '\u0004')
          return end(() => resolve(text.trim()))
        if (character === '\u007f' || character === '\b') text = text.slice(0, -1)
        else if (text.length < charactersMax) text += character
      }
    }
    signal.addEventListener('abort', abort)
    stdin.on('data', take)
    stdin.resume()
  })
}

async function* linesOf(stdin: NodeJS.ReadStream, signal: AbortSignal): AsyncGenerator<string> {
  let rest = ''
  stdin.setEncoding('utf8')
  const abort = () => stdin.destroy(signal.reason as Error)
  signal.addEventListener('abort', abort)
  try {
    for await (const piece of stdin) {
      const [last = '', ...earlier] = `${rest}${String(piece)}`
        .slice(0, 64 * charactersMax)
        .split('\n')
        .toReversed()
      rest = last
      yield* earlier.toReversed()
    }
  } finally {
    signal.removeEventListener('abort', abort)
  }
  if (rest !== '') yield rest
}
