// When a VM counts as ready: it has taken its address, and what the specification asks for answers there.

import { Agent, get } from 'node:http'
import { connect } from 'node:net'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Readiness, VmSpecification } from '../../protocol/vm.ts'
import type { Hypervisor, Placement, Wait } from './hypervisor.ts'

const pollMs = 250
const probeMs = 5_000

export interface ReadinessOptions {
  readonly hypervisor: Pick<Hypervisor, 'findVm' | 'listLeases'>
  readonly clock: Clock
  /** Probes of another kind, for tests. */
  readonly probes?: Probes
}

export interface Probes {
  /** Whether something accepts connections. */
  tcp(target: { address: string; port: number }, wait: Wait): Promise<boolean>
  /** Whether a GET is answered with a status below 400. */
  http(target: { address: string; port: number; path: string }, wait: Wait): Promise<boolean>
}

export interface ReadyWait extends Wait {
  readonly timeoutMs: number
  /** Expiry of the lease that an earlier run of the machine left: only a later one is this run's. */
  readonly leaseBefore?: number | undefined
  progress?(update: { note?: string }): void
}

/**
 * Waits until the VM has its address and, if asked for, its port or HTTP path answers. Throws E_UNAVAILABLE naming what is
 * missing, E_CONFLICT when the VM went off meanwhile, E_NOT_FOUND when it is gone.
 */
export async function awaitReady(
  vm: { specification: VmSpecification; placement: Placement },
  options: ReadinessOptions,
  wait: ReadyWait
): Promise<void> {
  const { name } = vm.specification
  using deadline = startDeadline({
    clock: options.clock,
    ms: wait.timeoutMs,
    what: name,
    signal: wait.signal
  })
  const remaining = conditionsOf(vm, options, wait.leaseBefore)
  while (remaining.length > 0) {
    const [next] = remaining
    if (next === undefined) return
    wait.progress?.({ note: `waiting for ${next.what}` })
    try {
      await requireRunning(name, options, deadline)
      if (await next.holds(deadline)) remaining.shift()
      else await options.clock.sleep(pollMs, deadline.signal)
    } catch (error) {
      wait.signal.throwIfAborted()
      throw deadline.signal.aborted ? notReady(name, next.what, wait.timeoutMs) : error
    }
  }
}

interface ReadyCondition {
  readonly what: string
  holds(wait: Wait): Promise<boolean>
}

function conditionsOf(
  { specification, placement }: { specification: VmSpecification; placement: Placement },
  { hypervisor, probes = systemProbes }: ReadinessOptions,
  leaseBefore = 0
): ReadyCondition[] {
  const { address, macAddress, network } = placement
  const ready: Readiness = specification.ready ?? {}
  const conditions: ReadyCondition[] = [
    {
      what: `its address ${address}`,
      holds: async (wait) =>
        (await hypervisor.listLeases(network, wait)).some(
          (lease) =>
            lease.macAddress === macAddress &&
            lease.address === address &&
            (lease.expiresAt ?? Number.POSITIVE_INFINITY) > leaseBefore
        )
    }
  ]
  const { tcpPort, http } = ready
  if (tcpPort !== undefined)
    conditions.push({
      what: `port ${tcpPort}`,
      holds: (wait) => probes.tcp({ address, port: tcpPort }, wait)
    })
  if (http !== undefined)
    conditions.push({
      what: `an answer to GET ${http.path} on port ${http.port}`,
      holds: (wait) => probes.http({ address, ...http }, wait)
    })
  return conditions
}

/** A guest that powered itself off or crashed will never be ready: that is known at once. */
async function requireRunning(name: string, { hypervisor }: ReadinessOptions, wait: Wait): Promise<void> {
  const record = await hypervisor.findVm(name, wait)
  if (record === undefined) throw new HostletError('E_NOT_FOUND', `VM ${name} is gone`)
  if (record.state === 'running') return
  throw new HostletError(
    'E_CONFLICT',
    `VM ${name} is ${record.state} (${record.reason}) before it was ready. Look at its console, and whether its image boots here.`
  )
}

function notReady(name: string, what: string, timeoutMs: number): HostletError {
  return new HostletError(
    'E_UNAVAILABLE',
    `VM ${name} did not become ready within ${timeoutMs / 1_000} s: ${what} did not come. Check its image, its seed and what it is asked to answer on, or allow it longer (ready timeout).`,
    { details: { vm: name, missing: what, timeoutMs } }
  )
}

export const systemProbes: Probes = {
  tcp: ({ address, port }, { signal }) =>
    new Promise((resolve) => {
      const socket = connect({ host: address, port, signal: probeSignal(signal) })
      const answer = (works: boolean) => {
        socket.destroy()
        resolve(works)
      }
      socket.once('connect', () => answer(true)).on('error', () => answer(false))
    }),
  http: ({ address, port, path }, { signal }) =>
    new Promise((resolve) => {
      const agent = new Agent({ keepAlive: false })
      const request = get({ host: address, port, path, agent, signal: probeSignal(signal) }, (response) => {
        response.destroy()
        resolve((response.statusCode ?? 500) < 400)
      })
      request.on('error', () => resolve(false))
    })
}

function probeSignal(signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(probeMs)])
}
