// Reads the journal through journalctl: the newest entries that match, then those to come.

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { HostletError } from '../../errors.ts'
import { type Filter, type LogEntry, matches, readEntry } from './entry.ts'

export interface JournalQuery extends Filter {
  readonly unit: string
  /** As journalctl takes it. */
  readonly since?: string | undefined
  readonly priority?: string | undefined
  /** At most so many, the newest; all without it. */
  readonly count?: number | undefined
}

export interface JournalPage {
  /** The oldest first. */
  readonly entries: readonly LogEntry[]
  /** Where those to come begin; undefined for an empty journal. */
  readonly cursor: string | undefined
  /** What journalctl had to say, such as that it may not read all of it. */
  readonly hint: string
}

/** Entries with what goes on below them count as one. Backwards, so that only what is shown is read. */
export async function newest(query: JournalQuery, signal: AbortSignal): Promise<JournalPage> {
  const found: LogEntry[][] = []
  const enough = new AbortController()
  let below: LogEntry[] = []
  let cursor: string | undefined
  const hint = await readJournal(
    [...argumentsOf(query), '--reverse'],
    AbortSignal.any([signal, enough.signal]),
    (entry) => {
      cursor ??= entry.cursor
      if (entry.goesOn) {
        below.unshift(entry)
        return
      }
      if (!enough.signal.aborted && matches(entry, query)) found.unshift([entry, ...below])
      below = []
      if (found.length >= (query.count ?? Number.POSITIVE_INFINITY)) enough.abort()
    }
  )
  signal.throwIfAborted()
  return { entries: found.flat(), cursor, hint }
}

/** Those after the cursor as they come. Ends with the signal's reason, or an error of journalctl. */
export async function follow(
  query: JournalQuery,
  {
    cursor,
    signal,
    onEntry
  }: { cursor: string | undefined; signal: AbortSignal; onEntry(entry: LogEntry): void }
): Promise<never> {
  let shows = false
  const { since: _before, ...rest } = query
  const from = cursor === undefined ? ['--lines=0'] : [`--after-cursor=${cursor}`, '--no-tail']
  const hint = await readJournal([...argumentsOf(rest), '--follow', ...from], signal, (entry) => {
    shows = entry.goesOn ? shows : matches(entry, query)
    if (shows) onEntry(entry)
  })
  signal.throwIfAborted()
  throw new HostletError(
    'E_UNAVAILABLE',
    `journalctl ended although it was to follow${hint === '' ? '' : `: ${hint}`}. Ask again.`
  )
}

function argumentsOf({ unit, since, priority }: JournalQuery): string[] {
  return [
    `--unit=${unit}`,
    '--output=json',
    '--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER',
    // Without it long lines come as null.
    '--all',
    '--no-pager',
    ...(since === undefined ? [] : [`--since=${since}`]),
    ...(priority === undefined ? [] : [`--priority=${priority}`])
  ]
}

const hintCharactersMax = 2_048

/** Resolves with what it said on standard error; when aborted also. Throws E_UNAVAILABLE, E_AUTH, E_BAD_REQUEST. */
function readJournal(
  args: readonly string[],
  signal: AbortSignal,
  onEntry: (entry: LogEntry) => void
): Promise<string> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return resolve('')
    const child = spawn('journalctl', args, {
      env: { PATH: process.env.PATH ?? '', LC_ALL: 'C.UTF-8', ...(process.env.TZ && { TZ: process.env.TZ }) },
      stdio: ['ignore', 'pipe', 'pipe']
    })
    let said = ''
    const kill = () => child.kill('SIGKILL')
    signal.addEventListener('abort', kill, { once: true })
    child.stderr.on('data', (chunk: Buffer) => {
      if (said.length < hintCharactersMax) said += chunk.toString('utf8')
    })
    createInterface({ input: child.stdout }).on('line', (line) => {
      const entry = readEntry(line)
      if (entry !== undefined) onEntry(entry)
    })
    child.once('error', (error: NodeJS.ErrnoException) => reject(notThere(error)))
    child.once('close', (code) => {
      signal.removeEventListener('abort', kill)
      const hint = said.trim().slice(0, hintCharactersMax)
      if (code === 0 || signal.aborted) resolve(hint)
      else reject(refused(hint, code))
    })
  })
}

function notThere(cause: NodeJS.ErrnoException): HostletError {
  return new HostletError(
    'E_UNAVAILABLE',
    cause.code === 'ENOENT'
      ? 'this machine has no journalctl, so nobody keeps the log for later. The agent writes it to its standard output: look where that goes.'
      : `journalctl could not be started (${cause.code ?? cause.message}). Look at the log with "journalctl -u hostlet".`,
    { cause }
  )
}

function refused(hint: string, code: number | null): HostletError {
  const [first = ''] = hint.split('\n')
  if (/permission/i.test(hint))
    return new HostletError(
      'E_AUTH',
      'you may not read the journal of this machine. Ask with sudo, or have yourself added with "usermod -aG systemd-journal USER" and log in anew.'
    )
  if (/no journal files were found/i.test(hint))
    return new HostletError('E_NOT_FOUND', 'this machine keeps no journal. Is systemd-journald running?')
  if (/timestamp|priority|log level|unit/i.test(hint))
    return new HostletError('E_BAD_REQUEST', `journalctl does not take that: ${first}`)
  return new HostletError(
    'E_UNAVAILABLE',
    `journalctl ended with ${code ?? 'a signal'}: ${first || 'it did not say why'}`
  )
}
