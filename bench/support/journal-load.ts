// A process that sends commands of many VMs to a dispatcher, as fast as it takes them, and tells how fast that was.

import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Type } from 'typebox'
import { CommandVerifier } from '../../src/agent/operations/command-verifier.ts'
import { Dispatcher } from '../../src/agent/operations/dispatch.ts'
import { Journal } from '../../src/agent/operations/journal.ts'
import { defineVerb } from '../../src/agent/operations/verb.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { claimsOf, createSigner, hostId } from '../../test/support/signed-commands.ts'

/** What the process prints. */
export interface JournalLoad {
  readonly acceptedPerSecond: number
  readonly endedPerSecond: number
  /** Of the event loop's delay, from the first command to the last result. */
  readonly delayP99Ms: number
  readonly delayMaxMs: number
  /** CPU time of the whole process, a command. */
  readonly cpuMs: number
}

/** Commands under way at the agent at a time; it takes 64. */
const inFlight = 60

const nothing = defineVerb<null>()({
  name: 'bench.nothing',
  summary: 'One step that does nothing.',
  lock: 'vm',
  changes: true,
  deadlineMs: 600_000,
  afterCrash: 'resume',
  params: Type.Object({ vm: Type.String() }),
  result: Type.Object({}),
  steps: () => [{ name: 'nothing', apply: async () => ({ did: 'nothing' }) }],
  outcome: async () => ({})
})

const [way, count, directoryOf] = process.argv.slice(2) as ['group' | 'single', string, string]
const directory = mkdtempSync(join(directoryOf, 'hostlet-journal-'))
try {
  process.stdout.write(`${JSON.stringify(await measure(Number(count)))}\n`)
} finally {
  rmSync(directory, { recursive: true })
}

async function measure(commands: number): Promise<JournalLoad> {
  await using journal = openJournal()
  const signer = await createSigner()
  let [acknowledged, ended] = [0, 0]
  const allEnded = Promise.withResolvers<void>()
  const dispatcher = new Dispatcher<null>({
    host: null,
    verbs: [nothing],
    journal,
    clock: systemClock,
    log: silentLogger,
    readiness: { isReady: () => true, untilReady: () => Promise.resolve() },
    verifier: new CommandVerifier({ hostId, keys: () => [signer.publicKey], clock: systemClock }),
    generationOf: async () => 0,
    emit: ({ type }) => {
      if (type === 'refusal') throw new Error('a command was refused')
      if (type === 'ack') acknowledged++
      if (type === 'result' && ++ended === commands) allEnded.resolve()
    },
    concurrencyMax: 64,
    waitingMax: 4_096
  })
  const signed: string[] = []
  for (let number = 0; number < commands; number++) signed.push(await signer.sign(claims(number)))
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const cpu = process.cpuUsage()
  const begun = performance.now()
  const senders = Array.from({ length: inFlight }, async () => {
    for (let jws = signed.pop(); jws !== undefined; jws = signed.pop()) await dispatcher.receive(jws)
  })
  await Promise.all(senders)
  const acceptedMs = performance.now() - begun
  if (acknowledged !== commands) throw new Error(`${acknowledged} of ${commands} were acknowledged`)
  await allEnded.promise
  const endedMs = performance.now() - begun
  delay.disable()
  const { user, system } = process.cpuUsage(cpu)
  await dispatcher.stop(1_000)
  return {
    acceptedPerSecond: (commands / acceptedMs) * 1_000,
    endedPerSecond: (commands / endedMs) * 1_000,
    delayP99Ms: delay.percentile(99) / 1e6,
    delayMaxMs: delay.max / 1e6,
    cpuMs: (user + system) / 1_000 / commands
  }
}

/** `single` is how it was before: every commit waits for the disk, on the spot. */
function openJournal(): Journal {
  const path = join(directory, 'agent.db')
  if (way === 'group') return new Journal(path, { clock: systemClock })
  const journal = new Journal(path, { clock: systemClock, sync: async () => undefined })
  journal.database.run('PRAGMA synchronous = FULL')
  return journal
}

function claims(number: number) {
  const vm = `vm-${number}`
  return claimsOf(Date.now(), {
    verb: 'bench.nothing',
    subject: { vm, uuid: randomUUID(), generation: 1 },
    arguments: { vm },
    expiresAt: Date.now() + 3_600_000
  })
}
