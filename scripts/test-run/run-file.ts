// Runs one test file (or tool) in a process group of its own, with a deadline, and counts what came out.
import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What a test process keeps of its standard output and error: the end is where the reason stands. */
const OUTPUT_CHARACTERS_MAX = 20_000

export interface TestOutcome {
  name: string
  /** `figure`: what a test wants said although it passed, as its name. */
  kind: 'suite' | 'test' | 'figure'
  passed: boolean
  ownFailure: boolean
  skip?: string
  todo?: string
  message?: string
}

export interface FileResult {
  file: string
  durationMs: number
  passed: number
  failures: { name: string; message: string }[]
  skips: { name: string; reason: string }[]
  /** How much was tried, as tests say with a diagnostic that begins with `figure: `. */
  figures?: string[]
  /** The end of what the process wrote. */
  output: string
}

interface RunOptions {
  timeoutMs: number
  signal: AbortSignal
}

/** Runs a test file. A crash, a time-out, a process that stays after its tests, and a file without tests are failures. */
export async function runFile(file: string, options: RunOptions): Promise<FileResult> {
  const directory = await mkdtemp(join(tmpdir(), 'hostlet-test-'))
  const report = join(directory, 'outcomes.jsonl')
  const reporter = new URL('./reporter.ts', import.meta.url).href
  const args = [`--test-reporter=${reporter}`, `--test-reporter-destination=${report}`, file]
  try {
    const ended = await runProcess(process.execPath, args, options)
    const lines = parseOutcomes(await readFile(report, 'utf8').catch(() => ''))
    const figures = lines.flatMap(({ kind, name }) => (kind === 'figure' ? [name] : []))
    const outcomes = lines.filter(({ kind }) => kind !== 'figure')
    const { durationMs, output } = ended
    return { file, ...tally(outcomes, ended), figures, durationMs, output }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** Runs a tool as if it were a test file with a single test. */
export async function runTool(
  file: string,
  [command, ...args]: readonly [string, ...string[]],
  options: RunOptions
): Promise<FileResult> {
  const { problem, durationMs, output } = await runProcess(command, args, options)
  const failures = problem ? [{ name: file, message: problem }] : []
  return { file, durationMs, output, passed: problem ? 0 : 1, failures, skips: [] }
}

/** Counts outcomes; `problem` is what was wrong with the process itself, whose exit code is 1 where a test failed. */
export function tally(
  outcomes: readonly TestOutcome[],
  { problem, code }: { problem: string | undefined; code: number | null }
): Pick<FileResult, 'passed' | 'failures' | 'skips'> {
  const isSet = ({ skip, todo }: TestOutcome) => skip !== undefined || todo !== undefined
  const skips = outcomes
    .filter(isSet)
    .map(({ name, skip, todo }) => ({ name, reason: skip ?? `todo ${todo}`.trim() }))
  const failures = outcomes
    .filter((outcome) => outcome.ownFailure && !isSet(outcome))
    .map(({ name, message }) => ({ name, message: message ?? 'failed' }))
  const passed = outcomes.filter(
    (outcome) => outcome.kind === 'test' && outcome.passed && !isSet(outcome)
  ).length
  if (problem && (failures.length === 0 || code !== 1))
    failures.push({ name: 'the test process', message: problem })
  if (!problem && outcomes.length === 0) failures.push({ name: 'the file', message: 'holds no test' })
  return { passed, failures, skips }
}

function parseOutcomes(text: string): TestOutcome[] {
  // A killed process may have left half a line.
  const complete = text.slice(0, text.lastIndexOf('\n') + 1)
  return complete
    .split('\n')
    .filter(Boolean)
    .map((line): TestOutcome => JSON.parse(line))
}

interface ProcessEnd {
  problem: string | undefined
  code: number | null
  durationMs: number
  output: string
}

function runProcess(
  command: string,
  args: readonly string[],
  { timeoutMs, signal }: RunOptions
): Promise<ProcessEnd> {
  const startedAt = performance.now()
  // A group of its own, so that what a test started ends with it. The runner's own test context must not be inherited:
  // it would change how the file reports.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const child = spawn(command, args, { detached: true, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-OUTPUT_CHARACTERS_MAX)
    })
  }
  let reason: string | undefined
  const end = (why: string) => {
    reason ??= why
    killGroup(child.pid)
  }
  const timer = setTimeout(() => end(`did not end within ${timeoutMs / 1000} s`), timeoutMs)
  const onAbort = () => end(String(signal.reason?.message ?? 'stopped'))
  signal.addEventListener('abort', onAbort, { once: true })
  return new Promise((resolve) => {
    const finish = (problem: string | undefined, code: number | null) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      killGroup(child.pid)
      resolve({ problem: reason ?? problem, code, durationMs: performance.now() - startedAt, output })
    }
    child.once('error', (error) => finish(error.message, null))
    // "exit", not "close": a daemon that a test left behind may hold the pipes open for ever.
    child.once('exit', (code, killedBy) => {
      const problem = code === 0 ? undefined : `ended with ${killedBy ?? `exit code ${code}`}`
      setImmediate(() => finish(problem, code))
    })
  })
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    // Nobody is left in the group: what we want.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
