// A whole agent whose state directory is a small file system that is full when it starts. Tells what its scheduler saw.

import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { HostDetail, OperationReply } from '../../../src/protocol/api.ts'
import { TestScheduler } from '../../scheduler/support/test-scheduler.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { HostAgent } from '../../support/host-agent.ts'
import { fill } from './full.ts'

await using scheduler = await TestScheduler.start()
await using host = await HostAgent.enroll(scheduler)
const clock = new FakeClock(scheduler.clock.now())
const conditions = async () =>
  (await scheduler.api.get<HostDetail>('/v1/hosts/kvm-1')).host.conditions.map(({ id }) => id)
const isFull = (ids: readonly string[]) => ids.includes('audit-trail')

await host.start(scheduler, { clock })
await host.untilLogged('connected to scheduler')
await host.stop()
await using _small = makeSmall(host)
const free = fill(host.stateDirectory)
await host.start(scheduler, { clock })
// What was put aside for its start may be more than that took.
const freeMore = fill(host.stateDirectory)
// The last block of the audit trail has room for a few entries more.
let refused = await refreshed()
for (let asks = 0; refused.state === 'done' && asks < 40; asks++) refused = await refreshed()
const full = await until(conditions, isFull)
free()
freeMore()
const [done] = await until(
  async () => [(await find(refused.id)).state],
  ([state]) => state === 'done'
)
const well = await until(conditions, (ids) => !isFull(ids))
process.stdout.write(JSON.stringify({ full, refused, done, well }))

/** What is in it stays, on a file system of a megabyte. */
function makeSmall({ directory, stateDirectory }: HostAgent): AsyncDisposable {
  const aside = mkdtempSync(join(directory, 'aside-'))
  cpSync(stateDirectory, aside, { recursive: true })
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m,mode=700', 'tmpfs', stateDirectory])
  cpSync(aside, stateDirectory, { recursive: true })
  rmSync(aside, { recursive: true })
  return {
    [Symbol.asyncDispose]: async () => {
      await host.stop()
      execFileSync('umount', [stateDirectory])
    }
  }
}

/** Asks the host for what is on it, until that is done or refused. */
async function refreshed(): Promise<OperationReply['operation']> {
  const { operation } = await scheduler.api.post<OperationReply>('/v1/hosts/kvm-1/refresh')
  for (;;) {
    const seen = await find(operation.id)
    if (seen.state === 'done' || seen.state === 'failed' || JSON.stringify(seen).includes('E_CAPACITY'))
      return seen
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

async function find(id: string): Promise<OperationReply['operation']> {
  return (await scheduler.api.get<OperationReply>(`/v1/operations/${id}`)).operation
}

/** Looks once per heartbeat of both sides. */
async function until(
  look: () => Promise<string[]>,
  holds: (seen: string[]) => boolean
): Promise<readonly string[]> {
  for (let beats = 0; beats < 12; beats++) {
    const seen = await look()
    if (holds(seen)) return seen
    await scheduler.clock.advance(10_000)
    await clock.advance(10_000)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`not seen in two minutes of heartbeats, but: ${await look()}\n${host.log}`)
}
