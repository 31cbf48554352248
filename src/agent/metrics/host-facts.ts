// The facts of a host that change with its hardware or its operating system: all of HostFacts but the hypervisor's part.

import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, hostname, release, totalmem, uptime } from 'node:os'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { HostFacts } from '../../protocol/vm.ts'

export type MachineFacts = Pick<
  HostFacts,
  'hostname' | 'kernel' | 'operatingSystem' | 'cpuModel' | 'cpus' | 'memoryBytes' | 'bootedAt'
>

/** What systeminformation tells; read once, since it changes only with a reboot. */
export interface DetectedFacts {
  readonly cpuModel: string
  readonly operatingSystem: string
}

const detectTimeoutMs = 15_000
const detectOutputBytesMax = 64 * 1024
const shortTextMax = 256

export class MachineFactsReader {
  readonly #detect: (signal: AbortSignal) => Promise<DetectedFacts>
  #detected: Promise<DetectedFacts> | undefined

  /** @param options.detect for tests; a short-lived child process with systeminformation otherwise. */
  constructor(options: { detect?: (signal: AbortSignal) => Promise<DetectedFacts> } = {}) {
    this.#detect = options.detect ?? detectInChild
  }

  /** Never fails for want of a detail: what cannot be detected is told as the kernel names it. Throws the signal's reason. */
  async read(wait: { signal: AbortSignal }): Promise<MachineFacts> {
    wait.signal.throwIfAborted()
    this.#detected ??= this.#detect(wait.signal).catch((error: unknown) => {
      this.#detected = undefined
      if (wait.signal.aborted) throw error
      return { cpuModel: cpus()[0]?.model ?? 'unknown', operatingSystem: `Linux ${release()}` }
    })
    const { cpuModel, operatingSystem } = await this.#detected
    return {
      hostname: short(hostname()),
      kernel: short(release()),
      operatingSystem: short(operatingSystem),
      cpuModel: short(cpuModel),
      cpus: Math.max(1, cpus().length || availableParallelism()),
      memoryBytes: totalmem(),
      bootedAt: bootTime()
    }
  }
}

/**
 * In a child of its own, because the library stays in memory once loaded: it would cost the agent a quarter of a bare
 * Node for two lines of text (docs/adr/0003-host-metrics-from-proc.md).
 */
async function detectInChild(signal: AbortSignal): Promise<DetectedFacts> {
  const program = fileURLToPath(new URL('./detect-facts.ts', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [program], {
    signal,
    timeout: detectTimeoutMs,
    maxBuffer: detectOutputBytesMax
  })
  const { cpuModel, operatingSystem } = JSON.parse(stdout) as Record<string, unknown>
  if (typeof cpuModel !== 'string' || typeof operatingSystem !== 'string')
    throw new TypeError('the detected facts are not text')
  return { cpuModel, operatingSystem }
}

/** From the kernel's own stamp: now minus uptime would wander by a millisecond from one reading to the next. */
function bootTime(): number {
  try {
    const match = /^btime (\d+)$/m.exec(readFileSync('/proc/stat', 'utf8'))
    if (match !== null) return Number(match[1]) * 1_000
  } catch {
    // Without /proc the uptime has to do.
  }
  return Math.round(Date.now() - uptime() * 1_000)
}

function short(text: string): string {
  return text.slice(0, shortTextMax)
}
