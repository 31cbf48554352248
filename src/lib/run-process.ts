// Programs of the host, run without a shell: bounded in time and output, killed when no longer wanted.

import { type ChildProcess, spawn } from 'node:child_process'
import { HostletError } from '../errors.ts'
import type { Clock } from './clock.ts'
import { systemClock } from './clock.ts'
import { startDeadline } from './deadline.ts'

export interface ProcessOptions {
  readonly signal: AbortSignal
  readonly deadlineMs: number
  /** Of standard output and standard error, each. More kills the program: E_INTERNAL. */
  readonly outputBytesMax?: number
  readonly input?: string | Uint8Array
  readonly cwd?: string
  /** Replaces the environment; by default only PATH and the C locale, so that output can be parsed. */
  readonly environment?: Readonly<Record<string, string>>
  readonly clock?: Clock
}

export interface ProcessResult {
  /** Null when a signal ended it. */
  readonly exitCode: number | null
  readonly stdout: string
  readonly stderr: string
}

/** A killed program that waits for storage ends when that answers, and nobody waits for it. */
const killedMsMax = 5_000
const outputBytesMaxDefault = 1024 * 1024

/**
 * Runs a program to its end, whatever its exit code. One that is killed and does not end is left after some seconds. Throws
 * E_UNAVAILABLE when it is not installed, E_TIMEOUT after the deadline, the signal's reason when aborted, E_INTERNAL when it
 * writes too much.
 */
export async function runProcess(
  program: string,
  args: readonly string[],
  options: ProcessOptions
): Promise<ProcessResult> {
  const { signal, deadlineMs, clock = systemClock } = options
  signal.throwIfAborted()
  using deadline = startDeadline({ clock, ms: deadlineMs, what: program, signal })
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: { ...(options.environment ?? { PATH: process.env.PATH ?? '', LC_ALL: 'C.UTF-8' }) },
    shell: false,
    windowsHide: true,
    stdio: 'pipe'
  })
  return await ended(child, program, options, deadline.signal)
}

/** The same, for programs whose failure is an error: E_INTERNAL with the last lines of its standard error. */
export async function mustRun(
  program: string,
  args: readonly string[],
  options: ProcessOptions
): Promise<string> {
  const { exitCode, stdout, stderr } = await runProcess(program, args, options)
  if (exitCode === 0) return stdout
  throw new HostletError(
    'E_INTERNAL',
    `${program} ended with ${exitCode ?? 'a signal'}: ${stderr.trim().slice(-1_024)}`,
    { details: { program, exitCode } }
  )
}

function ended(
  child: ChildProcess,
  program: string,
  options: ProcessOptions,
  signal: AbortSignal
): Promise<ProcessResult> {
  return new Promise((resolve, reject) => {
    let failure: unknown
    const leave = () => {
      signal.removeEventListener('abort', abort)
      for (const stream of [child.stdin, child.stdout, child.stderr]) stream?.destroy()
      child.unref()
      reject(failure)
    }
    let left: Disposable | undefined
    const stop = (reason: unknown) => {
      failure ??= reason
      child.kill('SIGKILL')
      left ??= (options.clock ?? systemClock).timer(killedMsMax, leave)
    }
    const abort = () => stop(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    const bytesMax = options.outputBytesMax ?? outputBytesMaxDefault
    const tooMuch = () => stop(new HostletError('E_INTERNAL', `${program} wrote more than ${bytesMax} bytes`))
    const stdout = gather(child.stdout, bytesMax, tooMuch)
    const stderr = gather(child.stderr, bytesMax, tooMuch)
    child.once('error', (cause) => {
      failure ??= spawnFailure(program, cause)
    })
    // A program that ends without reading its input closes the pipe; its exit code is what counts.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(options.input)
    child.once('close', (exitCode) => {
      signal.removeEventListener('abort', abort)
      left?.[Symbol.dispose]()
      if (failure === undefined) resolve({ exitCode, stdout: stdout(), stderr: stderr() })
      else reject(failure)
    })
  })
}

function gather(stream: ChildProcess['stdout'], bytesMax: number, tooMuch: () => void): () => string {
  const chunks: Buffer[] = []
  let bytes = 0
  stream?.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > bytesMax) tooMuch()
    else chunks.push(chunk)
  })
  return () => Buffer.concat(chunks).toString('utf8')
}

function spawnFailure(program: string, cause: NodeJS.ErrnoException): HostletError {
  if (cause.code === 'ENOENT')
    return new HostletError('E_UNAVAILABLE', `the program ${program} is not installed on this host`, {
      cause
    })
  return new HostletError('E_INTERNAL', `${program} could not be started (${cause.code ?? 'unknown'})`, {
    cause
  })
}
