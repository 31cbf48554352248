// npm run bench: runs the figures one after another, prints their table, keeps each result, and writes the docs if asked.

import { fork } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { asAgent, type FigureName, figureNames, isFigureName } from './figures.ts'
import type { FigureResult } from './harness.ts'
import { type Machine, markdownPage, type Outcome, terminalTable } from './report.ts'
import { describeMachine, describeVersions } from './support/machine.ts'
import { unitEnvironment } from './support/unit-environment.ts'

const root = join(import.meta.dirname, '..')
const resultsDirectory = join(root, 'bench/results')
const cacheDirectory = join(tmpdir(), 'hostlet-bench-cache')
const page = join(root, 'docs/benchmarks.md')

const usage = `npm run bench -- [--only NAME[,NAME]] [--quick] [--write] [--list]
  --only    run these figures (${figureNames.join(', ')})
  --quick   few repetitions, to try the bench itself
  --write   write docs/benchmarks.md from the newest result of every figure
  --list    print the names`

interface Reply {
  readonly title: string
  readonly result: FigureResult | { readonly notRun: string }
}

try {
  await main()
} catch (error) {
  console.error(`bench  ${error instanceof Error ? error.message : error}`)
  process.exitCode = 1
}

async function main(): Promise<void> {
  const options = readOptions()
  if (options === undefined) return
  mkdirSync(resultsDirectory, { recursive: true })
  const context = { machine: describeMachine(), versions: describeVersions(), quick: options.quick }
  const outcomes: Outcome[] = []
  for (const name of options.names) {
    console.error(`bench  ${name}`)
    try {
      const outcome = await outcomeOf(name, context)
      outcomes.push(outcome)
      keep(outcome)
    } catch (error) {
      // The others are still worth having; what broke has printed why.
      console.error(`bench  ${name} broke: ${error}`)
      process.exitCode = 1
    }
  }
  console.log(terminalTable(outcomes))
  if (options.write) writePage()
}

function readOptions(): { names: readonly FigureName[]; quick: boolean; write: boolean } | undefined {
  const flags = { type: 'boolean', default: false } as const
  const { values } = parseArgs({
    options: { only: { type: 'string' }, quick: flags, write: flags, list: flags, help: flags }
  })
  if (values.help || values.list) {
    console.log(values.help ? usage : figureNames.join('\n'))
    return undefined
  }
  const wanted = values.only?.split(',') ?? [...figureNames]
  const unknown = wanted.find((name) => !isFigureName(name))
  if (unknown !== undefined)
    throw new Error(`no figure is named "${unknown}"; there are ${figureNames.join(', ')}`)
  return { names: wanted.filter(isFigureName), quick: values.quick, write: values.write }
}

interface Context {
  readonly machine: Machine
  readonly versions: Readonly<Record<string, string>>
  readonly quick: boolean
}

async function outcomeOf(name: FigureName, context: Context): Promise<Outcome> {
  const date = new Date().toISOString()
  const { title, result } = await runApart(name, context.quick)
  return { id: name, title, date, ...context, load: loadavg()[2] ?? 0, result }
}

function runApart(name: FigureName, quick: boolean): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>()
  const args = [name, quick ? 'quick' : 'full']
  // Figures that run parts of the agent in their own process do so as its unit would.
  const env = { ...process.env, ...(asAgent.has(name) && unitEnvironment(cacheDirectory)) }
  const child = fork(join(import.meta.dirname, 'figure-process.ts'), args, { env })
  child.once('message', (reply) => resolve(reply as Reply))
  child.once('error', reject)
  child.once('exit', (code, signal) => {
    // Does nothing where the result has come.
    reject(new Error(`it ended with ${signal ?? `status ${code}`} and no result`))
  })
  return promise
}

/** Quick results lie beside the others: they never stand in for them. */
function keep(outcome: Outcome): void {
  const file = `${outcome.id}${outcome.quick ? '.quick' : ''}.json`
  writeFileSync(join(resultsDirectory, file), `${JSON.stringify(outcome, undefined, 2)}\n`)
}

function writePage(): void {
  const order = new Map(figureNames.map((name, index) => [name as string, index]))
  const outcomes = readdirSync(resultsDirectory)
    .filter((file) => file.endsWith('.json'))
    .map((file) => JSON.parse(readFileSync(join(resultsDirectory, file), 'utf8')) as Outcome)
    .filter(({ id, quick }) => order.has(id) && !quick)
    .sort((left, right) => (order.get(left.id) ?? 0) - (order.get(right.id) ?? 0))
  writeFileSync(page, markdownPage(outcomes))
  console.error(`bench  wrote docs/benchmarks.md`)
}
