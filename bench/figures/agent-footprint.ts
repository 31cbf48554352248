// Figure: memory and CPU of the agent, at rest and with 100 domains, against a Node that does nothing.

import { type ChildProcess, spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Figure, measureRow, type Row, type RunOptions, ratioRow } from '../harness.ts'
import { slope } from '../statistics.ts'
import { startCrowd } from '../support/crowd.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { cpuSeconds, residentMib } from '../support/process-usage.ts'

const DOMAINS = 100
const INTERVAL_MS = 10_000
/** The shortest that can be assigned: growth a cycle shows sooner. */
const FAST_INTERVAL_MS = 1_000
/** V8 gives back what starting up needed only after two quiet minutes. */
const SETTLE_MS = 150_000
const CPU_TARGET_PERCENT = 0.5

interface Phase {
  readonly domains: number
  readonly intervalMs: number
  readonly settleMs: number
  readonly watchMs: number
}

export const figure: Figure = {
  id: 'agent-footprint',
  title: 'What the agent costs',
  run: async ({ quick, log }: RunOptions) => {
    const factor = quick ? 0.1 : 1
    const phase = (domains: number, intervalMs: number, watchMs: number): Phase => ({
      ...{ domains, intervalMs, settleMs: SETTLE_MS * factor, watchMs: watchMs * factor }
    })
    const rest = await watch(phase(0, INTERVAL_MS, 120_000), log)
    const crowd = await watch(phase(DOMAINS, INTERVAL_MS, 120_000), log)
    const fast = await watch(phase(DOMAINS, FAST_INTERVAL_MS, 480_000), log)
    const cycles = fast.agentMib.length
    const growthMib = slope(fast.agentMib) * 1_000
    const rows: Row[] = [
      memoryRow('memory at rest, against bare Node', rest, 2.0),
      memoryRow(`memory with ${DOMAINS} domains every 10 s, against bare Node`, crowd, 2.3),
      cpuRow('CPU at rest, share of a core', rest),
      cpuRow(`CPU with ${DOMAINS} domains every 10 s, share of a core`, crowd),
      measureRow({
        what: `growth of memory in 1,000 cycles, over ${cycles} cycles`,
        samples: [growthMib],
        unit: 'MiB'
      })
    ]
    return {
      rows,
      how: [
        `The agent as its systemd unit runs it (its \`Environment=\`, compiled code kept from an earlier start): enrolled at a scheduler of its own, connected, sampling. At rest it has no VM; the ${DOMAINS} domains are real QEMUs (TCG, one CPU, a disk, an interface, created paused), defined with hostlet's metadata.`,
        `Memory is VmRSS, read every second for ${rest.agentMib.length} s after ${SETTLE_MS / 1_000} s to settle, of agent and of an empty Node that runs beside it. CPU is that of all its threads in the same time, in user space and kernel; one sample each ${INTERVAL_MS / 1_000} s.`,
        `Growth is the slope of memory with a sampling interval of ${FAST_INTERVAL_MS / 1_000} s assigned, over ${cycles} cycles, after the same time to settle.`
      ]
    }
  }
}

interface Watched {
  readonly agentMib: number[]
  readonly bareMib: number[]
  readonly cpuPercent: number[]
}

async function watch(phase: Phase, log: (line: string) => void): Promise<Watched> {
  log(`${phase.domains} domains every ${phase.intervalMs / 1_000} s`)
  await using fleet = await startFleet({
    metricsIntervalMs: phase.intervalMs,
    prepare: (libvirtd) => (phase.domains > 0 ? startCrowd(libvirtd, phase.domains) : Promise.resolve())
  })
  const bare = spawn(process.execPath, ['--eval', 'setInterval(() => {}, 1_000)'], { stdio: 'ignore' })
  try {
    await sleep(phase.settleMs)
    await expectSamples(fleet, phase.domains)
    return await readEverySecond(phase.watchMs, fleet.agentPid, bare)
  } finally {
    bare.kill('SIGKILL')
  }
}

async function readEverySecond(watchMs: number, agentPid: number, bare: ChildProcess): Promise<Watched> {
  const watched: Watched = { agentMib: [], bareMib: [], cpuPercent: [] }
  const start = performance.now()
  let mark = { at: start, cpu: cpuSeconds(agentPid) }
  while (performance.now() - start < watchMs) {
    await sleep(1_000)
    watched.agentMib.push(residentMib(agentPid))
    watched.bareMib.push(residentMib(bare.pid ?? 0))
    const now = { at: performance.now(), cpu: cpuSeconds(agentPid) }
    if (now.at - mark.at < INTERVAL_MS) continue
    watched.cpuPercent.push(((now.cpu - mark.cpu) / ((now.at - mark.at) / 1_000)) * 100)
    mark = now
  }
  return watched
}

/** A figure of an agent that does not sample would be a fine one. */
async function expectSamples({ api }: Fleet, domains: number): Promise<void> {
  const signal = AbortSignal.timeout(10_000)
  const latest = await api.ask({ method: 'GET', path: '/v1/metrics/latest', signal }, 'LatestMetrics')
  const sampled = latest.vms.filter(({ sample }) => sample !== undefined).length
  if (latest.hosts[0]?.sample === undefined) throw new Error('the agent has sent no sample of its host')
  if (sampled !== domains) throw new Error(`expected samples of ${domains} VMs, got ${sampled}`)
}

function memoryRow(what: string, { agentMib, bareMib }: Watched, atMost: number): Row {
  return ratioRow({
    what,
    first: ['agent', agentMib],
    second: ['bare Node', bareMib],
    unit: 'MiB',
    target: { atMost }
  })
}

/** The mean is what counts, and the median of intervals that hold one round each is close to it. */
function cpuRow(what: string, { cpuPercent }: Watched): Row {
  return measureRow({ what, samples: cpuPercent, unit: '%', target: { atMost: CPU_TARGET_PERCENT } })
}
