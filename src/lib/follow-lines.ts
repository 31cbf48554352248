// A program of the host that runs on and says things: each line is handed over, until it ends or is no longer wanted.

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

/** A program that says nothing useful at such length is ended. */
const faultBytesMax = 4_096

export interface FollowOptions {
  readonly signal: AbortSignal
  onLine(line: string): void
}

/** Resolves when the program has ended, with what it said of it; never throws. Aborted, it is killed. */
export function followLines(
  program: string,
  args: readonly string[],
  { signal, onLine }: FollowOptions
): Promise<string> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve('not wanted')
    const child = spawn(program, args, {
      env: { PATH: process.env.PATH ?? '', LC_ALL: 'C.UTF-8' },
      shell: false,
      stdio: ['ignore', 'pipe', 'pipe']
    })
    const kill = () => child.kill('SIGKILL')
    signal.addEventListener('abort', kill, { once: true })
    let fault = ''
    child.stderr.on('data', (chunk: Buffer) => {
      if (fault.length < faultBytesMax) fault += chunk.toString('utf8')
    })
    createInterface({ input: child.stdout }).on('line', onLine)
    child.once('error', (error) => {
      fault ||= error.message
    })
    child.once('close', (code, ender) => {
      signal.removeEventListener('abort', kill)
      resolve(fault.trim().slice(0, faultBytesMax) || `ended with ${code ?? ender}`)
    })
  })
}
