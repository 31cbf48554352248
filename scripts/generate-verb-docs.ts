// Writes docs/verbs/<verb>.md for every verb of the registry, from its declaration. Run: node scripts/generate-verb-docs.ts

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Host } from '../src/agent/host/host.ts'
import type { Verb } from '../src/agent/operations/verb.ts'
import type { VerbDocument } from '../src/agent/verbs/document.ts'
import { documentedVerbs } from '../src/agent/verbs/registry.ts'
import { type Advice, type ErrorCode, errorCodes } from '../src/errors.ts'
import { sections, table } from './reference/markdown.ts'
import { fields } from './reference/schema-table.ts'

export const verbPagesDirectory = join(import.meta.dirname, '..', 'docs', 'verbs')

/** What every page is made of, by the file's name. */
export function verbPages(): ReadonlyMap<string, string> {
  const pages = documentedVerbs.map(
    ({ verb, document }) => [`${verb.name}.md`, page(verb, document)] as const
  )
  return new Map([...pages, ['README.md', overview()]])
}

type Described = Verb<Host>

const locks = {
  vm: 'one operation at a time on a VM',
  backup: 'one at a time for the backups of a VM; beside what else is done to it, unless that says otherwise',
  image: 'one at a time for an image',
  host: 'one at a time for the host, beside everything else',
  none: 'none'
} as const
const backups = {
  wait: 'those that run are waited for, and none begins meanwhile',
  end: 'those that run or wait are cancelled, and none begins meanwhile'
} as const
const advices: Readonly<Record<Advice, string>> = {
  refuse: 'do not retry',
  retry: 'nothing happened: try again later',
  look: 'outcome unknown: look first',
  stop: 'stop and look',
  drop: 'connect anew',
  report: 'a bug: report it'
}

function page(verb: Described, document: VerbDocument): string {
  const { name, summary, params, result } = verb
  return sections(
    `# ${name}`,
    summary,
    table(
      ['', ''],
      [
        [
          'changes a VM',
          verb.changes ? 'yes: the command carries its VM, UUID and a newer generation' : 'no'
        ],
        ['lock', locks[verb.lock]],
        ...(verb.backups === undefined ? [] : [['backups of the VM', backups[verb.backups]] as const]),
        ['priority', priorities[verb.priority ?? 'normal']],
        ['places', places(verb)],
        ['while the host is drained', whileDrained(verb)],
        ['can be cancelled', cancellation(verb)],
        ['deadline', deadlineOf(verb, document)],
        ['after a crash', afterCrash(verb)]
      ]
    ),
    '## Arguments',
    fields(params),
    '## Result',
    fields(result),
    '## Steps',
    steps(verb, document),
    '## Errors',
    table(['code', 'when', 'the caller'], errors(document)),
    '## When the agent is killed',
    document.crash,
    ...crashSteps(verb, document),
    ...(document.remarks ? ['## Remarks', document.remarks.map((remark) => `- ${remark}`).join('\n')] : []),
    '## Example',
    `Arguments:\n\n\`\`\`json\n${JSON.stringify(document.example, null, 2)}\n\`\`\``
  )
}

function overview(): string {
  return sections(
    '# Verbs',
    'What a command can ask of a host. Made from the declarations by `node scripts/generate-verb-docs.ts`.',
    table(
      ['verb', 'what it does'],
      documentedVerbs.map(({ verb }) => [`[${verb.name}](${verb.name}.md)`, verb.summary])
    ),
    '## Order, time and crashes',
    'What each does to the others, and what becomes of one that the agent or the host was killed in. `docs/operate-operations.md` explains the words.',
    table(
      ['verb', 'lock', 'places', 'taken while drained', 'can be cancelled', 'deadline', 'after a crash'],
      documentedVerbs.map(({ verb, document }) => [
        `\`${verb.name}\``,
        verb.lock,
        lane(verb),
        whileDrained(verb),
        cancellation(verb),
        deadlineOf(verb, document),
        afterCrash(verb)
      ])
    ),
    'Every verb may besides be refused with `E_BAD_REQUEST` (arguments that do not fit), `E_AUTH` (not signed for this host), `E_STALE` (expired, or of an older generation), `E_BUSY` (too many operations wait) or `E_UNSUPPORTED` (an agent that lacks the verb), and may end with `E_LIBVIRT` (libvirt refused; its own code is in the details), `E_TIMEOUT` (the deadline), `E_INTERRUPTED` (libvirt or the agent went away) or `E_INTERNAL` (a bug). `docs/protocol.md` has the table of codes.'
  )
}

const priorities = {
  normal: 'normal',
  urgent: 'urgent: it does not wait behind work that is not'
} as const

function isLook({ looks }: Described): boolean {
  return looks === true
}

function isControl({ lock, priority }: Described): boolean {
  return lock === 'none' && priority === 'urgent'
}

function places(verb: Described): string {
  if (isLook(verb)) return 'of looks'
  if (isControl(verb)) return 'of what cancels and resumes'
  if (verb.lock === 'host') return 'of its own'
  if (verb.priority === 'urgent') return 'of what is urgent'
  return verb.lane === 'transfer'
    ? 'of transfers (backup.concurrencyMax)'
    : 'of work (operations.concurrencyMax)'
}

function lane(verb: Described): string {
  if (isLook(verb)) return 'looks'
  if (isControl(verb)) return 'control'
  return verb.lock === 'host' ? 'host' : (verb.priority ?? verb.lane ?? 'work')
}

function whileDrained(verb: Described): string {
  return verb.priority === 'urgent' || isLook(verb) ? 'taken' : 'refused: E_UNAVAILABLE, and sent again later'
}

function afterCrash(verb: Described): string {
  if (isLook(verb)) return 'asked again: a look is not journaled'
  return verb.afterCrash === 'resume' ? 'resumed' : 'rolled back'
}

/** Each step, and where an operation goes on from that the agent was killed in, after it or before it. */
function crashSteps(verb: Described, { example }: VerbDocument): string[] {
  const list = verb.steps(example as never, {} as Host)
  if (isLook(verb) || list.length === 0) return []
  let isDecided = false
  const rows = list.map((step) => {
    const row = [
      step.name,
      isDecided ? 'goes on: there is no way back' : whenKilledIn(verb, step.undo !== undefined)
    ]
    isDecided ||= step.final === true
    return row
  })
  return [table(['killed in', 'the next start'], rows)]
}

function whenKilledIn(verb: Described, hasUndo: boolean): string {
  if (verb.afterCrash === 'resume')
    return `repeats it and goes on; ${hasUndo ? 'undone' : 'nothing of it is undone'} if it fails, or at the sixth try`
  return `${hasUndo ? 'undoes it' : 'has nothing of it to undo'}, then the steps before it, and reports E_INTERRUPTED`
}

function cancellation(verb: Described): string {
  const { cancellable } = verb
  if (cancellable === true) return 'also while it runs: it is undone'
  return isLook(verb) ? 'no' : 'before it has begun'
}

/** The steps as they are for the example; a step that has nothing to do in a case says so itself. */
function steps(verb: Described, { example }: VerbDocument): string {
  const list = verb.steps(example as never, {} as Host)
  if (list.length === 0) return 'None.'
  return list
    .map(({ name, undo }, index) => `${index + 1}. ${name}${undo ? ' (undone when it fails)' : ''}`)
    .join('\n')
}

function deadlineOf(verb: Described, { example }: VerbDocument): string {
  const plain = `${verb.deadlineMs / 1_000} s`
  const own = verb.deadline?.(example as never)
  return own === undefined || own === verb.deadlineMs
    ? plain
    : `${plain}; follows the arguments (example: ${own / 1_000} s)`
}

function errors({ errors: known }: VerbDocument): string[][] {
  return Object.entries(known).map(([code, when]) => [
    `\`${code}\``,
    when,
    advices[errorCodes[code as ErrorCode].advice]
  ])
}

if (import.meta.main) {
  mkdirSync(verbPagesDirectory, { recursive: true })
  for (const [name, text] of verbPages()) writeFileSync(join(verbPagesDirectory, name), text)
}
