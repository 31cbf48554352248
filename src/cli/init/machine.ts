// The machine that "hostlet init" sets up: its files, accounts and programs, all below one root, so that a test has its own.

import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { dirname, join } from 'node:path'
import { HostletError, isErrorCode } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { type ProcessResult, runProcess } from '../../lib/run-process.ts'

const programMs = 120_000

export type RunProgram = (
  program: string,
  args: readonly string[],
  options: { readonly signal: AbortSignal; readonly deadlineMs: number; readonly input?: string }
) => Promise<ProcessResult>

export interface MachineOptions {
  readonly clock: Clock
  readonly signal: AbortSignal
  /** In front of every path. */
  readonly root?: string
  readonly run?: RunProgram
}

export interface Account {
  readonly uid: number
  readonly gid: number
}

export class Machine {
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly #root: string
  readonly #run: RunProgram

  constructor({ clock, signal, root = '/', run = runProcess }: MachineOptions) {
    this.clock = clock
    this.signal = signal
    this.#root = root
    this.#run = run
  }

  /** Where a path of the machine lies. */
  at(path: string): string {
    return join(this.#root, path)
  }

  get hasSystemd(): boolean {
    // As sd_booted(3) finds out.
    return this.exists('/run/systemd/system')
  }

  exists(path: string): boolean {
    return existsSync(this.at(path))
  }

  /** Undefined where there is no such file. */
  read(path: string): string | undefined {
    try {
      return readFileSync(this.at(path), 'utf8')
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw failed(path, 'read', cause)
    }
  }

  names(path: string): string[] {
    return this.exists(path) ? readdirSync(this.at(path)) : []
  }

  mode(path: string): number | undefined {
    return statSync(this.at(path), { throwIfNoEntry: false })?.mode
  }

  /** Milliseconds since the epoch; 0 where there is no such file. */
  changedAt(path: string): number {
    return statSync(this.at(path), { throwIfNoEntry: false })?.mtimeMs ?? 0
  }

  /** By the file of accounts: those of services are local ones. */
  account(name: string): Account | undefined {
    const found = new RegExp(`^${name}:[^:]*:(\\d+):(\\d+):`, 'm').exec(this.read('/etc/passwd') ?? '')
    return found === null ? undefined : { uid: Number(found[1]), gid: Number(found[2]) }
  }

  /** Old content or new, never half of it. The directory is made where it is missing. */
  write(path: string, text: string, { mode, group }: { mode: number; group?: number | undefined }): void {
    const full = this.at(path)
    try {
      mkdirSync(dirname(full), { recursive: true, mode: 0o755 })
      writeFileSync(`${full}.new`, text, { mode })
      if (group !== undefined) chownSync(`${full}.new`, 0, group)
      chmodSync(`${full}.new`, mode)
      renameSync(`${full}.new`, full)
    } catch (cause) {
      throw failed(path, 'written', cause)
    }
  }

  makeDirectory(path: string, { mode, owner }: { mode: number; owner?: Account | undefined }): void {
    const full = this.at(path)
    try {
      if (existsSync(full)) return
      mkdirSync(full, { recursive: true, mode: 0o755 })
      chmodSync(full, mode)
      if (owner !== undefined) chownSync(full, owner.uid, owner.gid)
    } catch (cause) {
      throw failed(path, 'made', cause)
    }
  }

  /** Whatever its exit code. Throws E_UNAVAILABLE where there is no such program. */
  async run(program: string, args: readonly string[], input?: string): Promise<ProcessResult> {
    const options = { signal: this.signal, deadlineMs: programMs, ...(input !== undefined && { input }) }
    return await this.#run(program, args, options)
  }

  /** Its standard output. When it fails, throws the error that hostlet told there, and E_UNAVAILABLE with what any other said. */
  async must(program: string, args: readonly string[], input?: string): Promise<string> {
    const { exitCode, stdout, stderr } = await this.run(program, args, input)
    if (exitCode === 0) return stdout
    const said = (stderr.trim() || stdout.trim()).slice(-1_024)
    const [, code, message = ''] = /^error (E_[A-Z]+): (.+)$/m.exec(said) ?? []
    if (isErrorCode(code)) throw new HostletError(code, message)
    throw new HostletError('E_UNAVAILABLE', `${program} ${args.join(' ')} ended with ${exitCode}: ${said}`)
  }

  /** Standard output of a question that may fail: then what there is of it. */
  async ask(program: string, args: readonly string[]): Promise<string> {
    try {
      return (await this.run(program, args)).stdout.trim()
    } catch {
      this.signal.throwIfAborted()
      return ''
    }
  }
}

function failed(path: string, what: string, cause: unknown): HostletError {
  const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
  return new HostletError('E_UNAVAILABLE', `${path} cannot be ${what} (${code}). Is this run as root?`, {
    cause
  })
}
