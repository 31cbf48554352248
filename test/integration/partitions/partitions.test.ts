// A fleet that is cut apart while commands flow, in network namespaces of its own: each command has one outcome and is done once.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { systemClock } from '../../../src/lib/clock.ts'
import { eventually } from '../isolation/eventually.ts'
import { CutFleet } from './cut-fleet.ts'
import type { Direction } from './cut-network.ts'
import { CutTraffic } from './cut-traffic.ts'

const mebibyte = 1024 ** 2
/** How much more than at rest an agent may hold after all of this: it keeps what it could not tell, and that is bounded. */
const growthBytesMax = 200 * mebibyte
const cuts: Readonly<Record<string, Direction>> = {
  'kvm-1': 'both',
  'kvm-2': 'to the scheduler',
  'kvm-3': 'from the scheduler'
}
const cutHosts = Object.keys(cuts)
const untouched = 'kvm-4'
const names = [...cutHosts, untouched]
const patienceMs = 120_000

describe('a fleet that is cut apart while commands flow', {
  skip: process.getuid?.() !== 0 && 'making network namespaces needs root',
  timeout: 840_000
}, () => {
  const directory = mkdtempSync('/dev/shm/hostlet-cut-')
  let fleet: CutFleet
  let traffic: CutTraffic
  const resting = new Map<string, number>()

  before(async () => {
    fleet = await CutFleet.open(directory, names)
    for (const { name, residentBytes } of fleet.hosts) resting.set(name, residentBytes)
    traffic = new CutTraffic(fleet)
    await traffic.more(5)
  })
  after(async () => {
    await fleet?.[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  })

  it('for moments that TCP bridges', async () => {
    for (const ms of [300, 600, 900]) {
      await fleet.network.cut(cuts)
      await systemClock.sleep(ms)
      await fleet.network.heal()
      await traffic.more(5)
    }
  })

  it('until the scheduler has missed the heartbeats, before the agent has missed an answer', async () => {
    await fleet.network.cut(cuts)
    await fleet.shown('away', 'kvm-1', 'kvm-2')
    await assertOthersGoOn()
    await fleet.network.heal()
    await fleet.shown('connected', ...names)
    await traffic.more(20)
  })

  it('until both sides have noticed', async () => {
    const losses = new Map(fleet.hosts.map((host) => [host, host.losses]))
    await fleet.network.cut(cuts)
    await fleet.shown('away', ...cutHosts)
    for (const host of cutHosts.map((name) => fleet.host(name)))
      await eventually(() => host.losses > (losses.get(host) ?? 0), `${host.name} to notice`, patienceMs)
    await assertOthersGoOn()
    await fleet.network.heal()
    await fleet.shown('connected', ...names)
    await traffic.more(20)
  })

  it('over and over', async () => {
    for (let round = 0; round < 6; round++) {
      await fleet.network.cut(cuts)
      await systemClock.sleep(500 * (round % 3) + 1_000)
      await fleet.network.heal()
      await systemClock.sleep(500)
    }
    await fleet.shown('connected', ...names)
    await traffic.more(20)
  })

  it('by a line that loses packets, and one that is slow', async () => {
    await fleet.network.lose('kvm-1', 20)
    await fleet.network.slow('kvm-2', 64_000)
    await traffic.more(20)
    await fleet.network.heal()
    await fleet.network.hurry('kvm-2')
    await fleet.shown('connected', ...names)
    await traffic.more(20)
  })

  it('has done each command once, and its books say so', async (test) => {
    const asked = await traffic.finish()
    for (const [host, ids] of asked) {
      const growth = host.residentBytes - (resting.get(host.name) ?? 0)
      test.diagnostic(
        `${host.name}: ${ids.length} commands, ${host.losses} losses, grew by ${Math.round(growth / mebibyte)} MiB`
      )
      assert.ok(growth < growthBytesMax, `${host.name} grew by ${growth} bytes`)
    }
    await fleet.stop()
    for (const [host, ids] of asked) {
      const { status, stdout, stderr } = await fleet.hostlet(
        ...['audit', 'verify', '--state-directory', host.stateDirectory, '--scheduler', '--output', 'json']
      )
      assert.equal(status, 0, `${host.name}: ${stdout}${stderr}`)
      const trail = await fleet.hostlet('audit', 'export', '--state-directory', host.stateDirectory)
      const entries = trail.stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as { kind: string; command?: string })
      const count = (kind: string, id: string) =>
        entries.filter((entry) => entry.kind === kind && entry.command === id).length
      for (const id of ids) {
        assert.equal(count('command.accepted', id), 1, `${host.name}: ${id} was accepted once`)
        assert.equal(count('operation.ended', id), 1, `${host.name}: ${id} has one end`)
      }
    }
  })

  /** The control: a host that nobody cut is connected, and does what it is told. */
  async function assertOthersGoOn(): Promise<void> {
    await traffic.more(10, [fleet.host(untouched)])
    assert.equal(await fleet.stateOf(untouched), 'connected')
  }
})
