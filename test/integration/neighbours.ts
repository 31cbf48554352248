// Guests beside each other on this machine's libvirt: one that is measured and greedy ones, and what each got in the same time.

import { randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import type { Host } from '../../src/agent/host/host.ts'
import { systemClock } from '../../src/lib/clock.ts'
import type { VmSpecification } from '../../src/protocol/vm.ts'
import { succeed } from '../agent/verbs/bench.ts'
import { askGuest, guestSpecification } from './provision-host.ts'

export interface Guest {
  readonly name: string
  readonly uuid: string
  readonly address: string
}

/** Several guests boot at once, emulated. */
const readyMs = 400_000

/** How long guests may take to begin to work. */
const leadSecondsMax = 12
const begunNanoseconds = 300_000_000

let generation = 0

export function subjectOf({ name, uuid }: Pick<Guest, 'name' | 'uuid'>) {
  return { subject: { vm: name, uuid, generation: ++generation } }
}

export async function provision(
  host: Host,
  name: string,
  changes: Partial<VmSpecification> = {}
): Promise<Guest> {
  const uuid = randomUUID()
  const ready = { http: { port: 80, path: '/' }, timeoutMs: readyMs }
  const specification = guestSpecification({ name, uuid, ready, ...changes })
  const value = await succeed(host, 'vm.provision', { specification }, subjectOf({ name, uuid }))
  return { name, uuid, address: String(value.address) }
}

/** Has the guest work as hard as it can; resolves with the rounds that it did, or 0 where it was cut off. */
export async function work(guest: Guest, kind: 'cpu' | 'disk', seconds: number): Promise<number> {
  const url = `http://${guest.address}/cgi-bin/work?kind=${kind}&seconds=${seconds}`
  const answer = await fetch(url, { signal: AbortSignal.timeout(seconds * 1_000 + 120_000) })
  return Number(await answer.text())
}

/** Resolves when the guest answers, however long its boot takes here. */
export async function untilAnswer(guest: Guest): Promise<void> {
  for (const until = systemClock.monotonic() + readyMs; ; ) {
    try {
      return void (await askGuest(guest.address))
    } catch (error) {
      if (systemClock.monotonic() > until) throw error
    }
  }
}

export interface Usage {
  readonly cpuNanoseconds: number
  readonly writtenBytes: number
}

/** What each guest used in a window, while all of them work: `threads` of each at once, 1 where it is not said. */
export async function usageOf(
  host: Host,
  guests: readonly Guest[],
  { kind, seconds, threads = [] }: { kind: 'cpu' | 'disk'; seconds: number; threads?: readonly number[] }
): Promise<Usage[]> {
  const idle = await countersOf(host, guests)
  // Busy before the window opens and after it closes.
  const working = guests.flatMap((guest, index) =>
    Array.from({ length: threads[index] ?? 1 }, () =>
      work(guest, kind, seconds + leadSecondsMax + 2).catch(() => 0)
    )
  )
  await untilBusy(host, guests, idle)
  const before = await countersOf(host, guests)
  await systemClock.sleep(seconds * 1_000, AbortSignal.timeout(120_000))
  const after = await countersOf(host, guests)
  await Promise.all(working)
  return after.map((counters, index) => ({
    cpuNanoseconds: counters.cpuNanoseconds - (before[index]?.cpuNanoseconds ?? 0),
    writtenBytes: counters.writtenBytes - (before[index]?.writtenBytes ?? 0)
  }))
}

/** A guest that was asked has begun when it has used some of its processor; one that never does is measured as it is. */
async function untilBusy(host: Host, guests: readonly Guest[], idle: readonly Usage[]): Promise<void> {
  const signal = AbortSignal.timeout(leadSecondsMax * 1_000)
  while (!signal.aborted) {
    const now = await countersOf(host, guests)
    const begun = now.every(
      ({ cpuNanoseconds }, index) => cpuNanoseconds - (idle[index]?.cpuNanoseconds ?? 0) > begunNanoseconds
    )
    if (begun) return
    await systemClock.sleep(200, signal).catch(() => undefined)
  }
}

async function countersOf(host: Host, guests: readonly Guest[]): Promise<Usage[]> {
  const counters = await host.hypervisor.counters({ signal: AbortSignal.timeout(30_000) })
  return guests.map(({ uuid }) => {
    const found = counters.find((each) => each.uuid === uuid)
    return { cpuNanoseconds: found?.cpuNanoseconds ?? 0, writtenBytes: found?.diskWriteBytes ?? 0 }
  })
}

/** How much the first got for each unit that all the others got together. */
export function shareOfFirst(values: readonly number[]): number {
  const [first = 0, ...others] = values
  return (
    first /
    Math.max(
      1,
      others.reduce((sum, value) => sum + value, 0)
    )
  )
}

export async function pidOf(vm: string): Promise<number> {
  return Number((await readFile(`/run/libvirt/qemu/${vm}.pid`, 'utf8')).trim())
}

/** Processors that each thread of a VM's QEMU may run on, by the thread's name. */
export async function allowedCpus(vm: string): Promise<{ thread: string; cpus: string }[]> {
  const tasks = `/proc/${await pidOf(vm)}/task`
  return await Promise.all(
    (await readdir(tasks)).map(async (task) => {
      const status = await readFile(`${tasks}/${task}/status`, 'utf8')
      const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? ''
      return { thread: field('Name'), cpus: field('Cpus_allowed_list') }
    })
  )
}

/** The group of the kernel that a VM's memory counts for; undefined where libvirt makes none. */
export async function memoryGroupOf(vm: string): Promise<string | undefined> {
  const groups = await readFile(`/proc/${await pidOf(vm)}/cgroup`, 'utf8')
  const first = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(\/.*machine.*)$/m.exec(groups)?.[1]
  if (first !== undefined) return `/sys/fs/cgroup/memory${first}`
  const unified = /^0::(\/.*machine.*?)(?:\/emulator|\/vcpu\d+)?$/m.exec(groups)?.[1]
  return unified && `/sys/fs/cgroup${unified}`
}
