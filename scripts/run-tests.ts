// The test runner: picks the files, runs each in a process of its own, checks that nothing is left on the machine,
// and prints last one line `N passed, N failed, N skipped` that holds for programs too.
//
//   node scripts/run-tests.ts [options] [unit | integration | contract | FILE | DIRECTORY]...
//     --checks            run lint and type check first, each counted as one test
//     --concurrency N     files at a time (else: all cores for unit, one for what shares libvirtd)
//     --leaks MODE        what to do about things left on the machine: fail (default), report, off. "report" is for a
//                         machine that others use at the same time; HOSTLET_TEST_LEAKS=report says it for a shell
//     --list              print the files that would run, and stop
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { machineSnapshot, type Snapshot, waitForNoLeaks } from './test-run/leaks.ts'
import { printFile, printTotals } from './test-run/print.ts'
import { type FileResult, runFile, runTool } from './test-run/run-file.ts'
import { type Group, selectFiles } from './test-run/select.ts'

const UNIT_TIMEOUT_MS = 180_000
const SHARED_LIBVIRT_TIMEOUT_MS = 900_000
/** Files that take longer than their group's others: they watch their own time. */
const OWN_TIMEOUT_MS: Readonly<Record<string, number>> = {
  'test/simulation/integration/campaign.test.ts': 1_800_000
}

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    checks: { type: 'boolean', default: false },
    concurrency: { type: 'string' },
    leaks: { type: 'string', default: process.env.HOSTLET_TEST_LEAKS ?? 'fail' },
    list: { type: 'boolean', default: false }
  }
})

const cancel = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => cancel.abort(new Error(`stopped by ${signal}`)))
}

process.exitCode = await main()

async function main(): Promise<number> {
  const groups = selectFiles(process.cwd(), positionals)
  if (options.list) {
    for (const { files } of groups) for (const file of files) console.log(file)
    return 0
  }
  if (groups.length === 0) {
    console.error(
      `No test file matches ${positionals.join(' ')}. See them all: node scripts/run-tests.ts --list`
    )
    return 1
  }
  const before = options.leaks === 'off' ? undefined : await machineSnapshot()
  const results = options.checks ? await runChecks() : []
  for (const group of groups) results.push(...(await runGroup(group)))
  if (before) results.push(await checkLeaks(before))
  const totals = printTotals(results)
  return totals.failed === 0 && !cancel.signal.aborted ? 0 : 1
}

async function runChecks(): Promise<FileResult[]> {
  const results: FileResult[] = []
  for (const [name, command] of [
    ['lint', ['biome', 'check', '.']],
    ['type check', ['tsc', '--noEmit']],
    ['type check of the dashboard', ['tsc', '--noEmit', '--project', 'src/scheduler/web']]
  ] as const) {
    const result = await runTool(name, command, { timeoutMs: UNIT_TIMEOUT_MS, signal: cancel.signal })
    printFile(result)
    results.push(result)
  }
  return results
}

async function runGroup({ name, files }: Group): Promise<FileResult[]> {
  const sharesLibvirt = name !== 'unit'
  const atATime = Number(options.concurrency ?? (sharesLibvirt ? 1 : availableParallelism()))
  const timeoutMs = sharesLibvirt ? SHARED_LIBVIRT_TIMEOUT_MS : UNIT_TIMEOUT_MS
  console.log(`${name}: ${files.length} files, ${atATime} at a time`)
  const waiting = [...files]
  const results: FileResult[] = []
  const work = async () => {
    for (let file = waiting.shift(); file && !cancel.signal.aborted; file = waiting.shift()) {
      const result = await runFile(file, {
        timeoutMs: OWN_TIMEOUT_MS[file] ?? timeoutMs,
        signal: cancel.signal
      })
      printFile(result)
      results.push(result)
    }
  }
  await Promise.all(Array.from({ length: atATime }, work))
  return results
}

async function checkLeaks(before: Snapshot): Promise<FileResult> {
  const startedAt = performance.now()
  const leaks = await waitForNoLeaks(before)
  const file = 'nothing left behind'
  const durationMs = performance.now() - startedAt
  const quiet = { file, durationMs, output: '', passed: 0, failures: [], skips: [] }
  if (leaks.length === 0) return { ...quiet, passed: 1 }
  if (options.leaks === 'report')
    return { ...quiet, skips: [{ name: 'not ours?', reason: leaks.join(', ') }] }
  const result = {
    ...quiet,
    failures: leaks.map((leak) => ({ name: leak, message: 'was not there before the run' }))
  }
  printFile(result)
  return result
}
