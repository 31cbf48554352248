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
await host.start(scheduler, { clock })
await host.untilLogged('connected to scheduler')
await host.stop()

makeSmall(host.stateDirectory)
const free = fill(host.stateDirectory)
await host.start(scheduler, { clock })
await host.untilLogged('connected to scheduler')
const conditions = async () =>
  (await scheduler.api.get<HostDetail>('/v1/hosts/kvm-1')).host.conditions.map(({ id }) => id)
const full = await until(conditions, (ids) => ids.includes('audit-trail'))
const { operation: refused } = await scheduler.api.post<OperationReply>('/v1/hosts/kvm-1/refresh')
const end = await until(
  () => scheduler.api.get<OperationReply>(`/v1/operations/${refused.id}`),
  ({ operation }) => operation.state === 'failed'
)
free()
const well = await until(conditions, (ids) => !ids.includes('audit-trail'))
const { operation: taken } = await scheduler.api.post<OperationReply>('/v1/hosts/kvm-1/refresh')
const done = await until(
  () => scheduler.api.get<OperationReply>(`/v1/operations/${taken.id}`),
  ({ operation }) => operation.state === 'done' || operation.state === 'failed'
)
await host.stop()
execFileSync('umount', [host.stateDirectory])
process.stdout.write(JSON.stringify({ full, well, refused: end.operation.error, done: done.operation.state }))

/** What is in it stays, on a file system of a megabyte. */
function makeSmall(directory: string): void {
  const aside = mkdtempSync(join(host.directory, 'aside-'))
  cpSync(directory, aside, { recursive: true })
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m,mode=700', 'tmpfs', directory])
  cpSync(aside, directory, { recursive: true })
  rmSync(aside, { recursive: true })
}

/** Looks once per heartbeat of both sides. */
async function until<Seen>(look: () => Promise<Seen>, holds: (seen: Seen) => boolean): Promise<Seen> {
  for (let beats = 0; beats < 30; beats++) {
    const seen = await look()
    if (holds(seen)) return seen
    await scheduler.clock.advance(10_000)
    await clock.advance(10_000)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`not seen: ${JSON.stringify(await look())}\n${host.log}`)
}
