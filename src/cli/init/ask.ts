// Questions of "hostlet init" on a terminal. The answer to one about a secret is not shown.

import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { HostletError } from '../../errors.ts'
import { plain } from '../table.ts'

/** True where a person can answer. */
export function canAsk(): boolean {
  return process.stdin.isTTY === true && process.stderr.isTTY === true
}

/** What was typed, or the default for nothing. */
export async function ask(text: string, fallback: string, signal: AbortSignal): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = (await lines.question(`${plain(text)} [${plain(fallback)}] `, { signal })).trim()
    return answer === '' ? fallback : answer
  } finally {
    lines.close()
  }
}

export async function askSecret(text: string, signal: AbortSignal): Promise<string> {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
  // Before the question: from here on the terminal shows nothing of what is typed.
  const lines = createInterface({ input: process.stdin, output: nowhere, terminal: true })
  process.stderr.write(`${plain(text)} `)
  try {
    return (await lines.question('', { signal })).trim()
  } finally {
    lines.close()
    process.stderr.write('\n')
  }
}

/** Throws E_CANCELLED for any answer but yes. */
export async function askToGoOn(signal: AbortSignal): Promise<void> {
  const answer = await ask('Go on? y or n', 'y', signal)
  if (!/^y(es)?$/i.test(answer))
    throw new HostletError('E_CANCELLED', 'nothing was changed. The same line asks again.')
}
