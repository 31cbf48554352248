// The power goes while commands flow: the state directory as it was at any write, which was cut off at any byte, put back.

import assert from 'node:assert/strict'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { Journal } from '../../../src/agent/operations/journal.ts'
import { asHostletError } from '../../../src/errors.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { writePolicy } from './agent.ts'
import { Agents } from './agents.ts'
import { Campaign } from './campaign.ts'
import { difference, digestOf } from './digest.ts'
import { gateFiles } from './files.ts'
import type { AgentProcess } from './process.ts'
import { Run, type Snapshot } from './run.ts'
import { lifeOf } from './scenarios.ts'

/** Cuts of each write, beside nothing and all of it. */
const cutsOfEach = 4
/** Moments from which agents go on, side by side. */
const togetherMax = 40
const database = 'agent.db'
const ahead = 'agent.db-wal'
const pageBytes = 4_096

/** What was on the disk after a write, and what others knew by then. */
interface Moment {
  readonly what: string
  readonly directory: string
  readonly snapshot: Snapshot
  /** Calls to the world by then. */
  readonly calls: number
}

describe('the state directory after the power went', { timeout: 600_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-power-'))
  const moments: Moment[] = []
  let campaign: Campaign
  let run: Run
  let expected: readonly string[]

  before(async () => {
    campaign = await Campaign.create(directory)
    const agents: Agents = new Agents({
      fixture: campaign.fixture,
      tell: (message) => queueMicrotask(() => run.take(message)),
      onPassed: (what) => moments.push(momentOf(what))
    })
    gateFiles((agent) => agents.gateOf(agent))
    run = await campaign.runOn(undefined, { name: 'lasting', asks: lifeOf(campaign.images) })
    const end = await run.start((message) => agents.take(message), undefined)
    assert.ok('effects' in end)
    assert.deepEqual(
      run.results.map(([result]) => result?.error ?? result?.outcome),
      run.results.map(() => 'done')
    )
    expected = afterBoot(await digestOf(run.world, run.directory))
  })
  after(() => rmSync(directory, { recursive: true, force: true }))

  it('holds what was acknowledged and told, wherever the last write was cut off', (context) => {
    let looks = 0
    for (const [index, moment] of moments.entries())
      for (const lay of cutsOf(moments[index - 1], moment)) {
        const copy = join(directory, 'look')
        mkdirSync(copy)
        for (const name of [database, ahead])
          if (existsSync(join(moment.directory, 'state', name)))
            cpSync(join(moment.directory, 'state', name), join(copy, name))
        const about = `${index} (${moment.what}), ${lay(copy)}`
        requireKnown(copy, moment, about)
        rmSync(copy, { recursive: true })
        looks++
      }
    context.diagnostic(`${moments.length} writes, ${looks} states of the disk`)
    assert.ok(looks > moments.length)
  })

  it('lets every operation come to its end after the host booted', async (context) => {
    const faults: string[] = []
    for (let from = 0; from < moments.length; from += togetherMax) {
      const agents = campaign.process()
      await Promise.all(
        moments.slice(from, from + togetherMax).map(async (moment, index) => {
          const fault = await carryOn(moment, from + index, agents).catch(String)
          if (fault !== '') faults.push(`${from + index} (${moment.what}): ${fault}`)
        })
      )
      await agents.kill()
    }
    context.diagnostic(`${moments.length} boots`)
    assert.equal(faults.length, 0, `${faults.length} faults\n${faults.slice(0, 5).join('\n')}`)
  })

  it('is refused where its database is cut off, with the next step, or holds everything', (context) => {
    const whole = moments.at(-1)
    assert.ok(whole)
    const copy = join(directory, 'cut')
    cpSync(join(run.directory, 'state'), copy, { recursive: true })
    // The agent has stopped: all of it is in one file.
    assert.equal(existsSync(join(copy, ahead)), false)
    const content = readFileSync(join(copy, database))
    let refused = 0
    const cuts = spread(1, content.length - 1, 60)
    for (const bytes of cuts) {
      writeFileSync(join(copy, database), content.subarray(0, bytes))
      rmSync(join(copy, ahead), { force: true })
      rmSync(join(copy, `${database}-shm`), { force: true })
      try {
        requireKnown(copy, whole, `cut off after ${bytes} of ${content.length} bytes`)
      } catch (thrown) {
        const { code, message } = asHostletError(thrown)
        assert.equal(code, 'E_CORRUPT', `cut off after ${bytes} of ${content.length} bytes: ${message}`)
        assert.match(message, /Move it away and start again/)
        refused++
      }
    }
    context.diagnostic(`${refused} of ${cuts.length} cuts refused`)
    assert.ok(refused > cuts.length / 2)
  })

  function momentOf(what: string): Moment {
    const copy = join(directory, 'moments', String(moments.length))
    mkdirSync(copy, { recursive: true })
    for (const name of readdirSync(run.directory))
      if (name !== 'run') cpSync(join(run.directory, name), join(copy, name), { recursive: true })
    return { what, directory: copy, snapshot: run.snapshot(), calls: run.world.calls }
  }

  /** On the same host after its boot: machines are off, what lay in memory is gone. */
  async function carryOn(moment: Moment, index: number, agents: AgentProcess): Promise<string> {
    const name = `b${index}`
    const to = join(directory, 'agents', name)
    cpSync(moment.directory, to, { recursive: true })
    writePolicy(to, campaign.fixture)
    const world = await run.world.copy(run.directory, to, moment.calls)
    world.hypervisor.bootHost()
    const again = new Run({
      name,
      directory: to,
      world,
      snapshot: moment.snapshot,
      signer: campaign.signer,
      boot: 'boot-2'
    })
    const end = await agents.start(again)
    if (!('effects' in end)) return 'it died'
    const outcomes = again.results.map(([result]) => result?.error?.message ?? result?.outcome)
    if (outcomes.some((outcome) => outcome !== 'done')) return outcomes.join()
    if (end.open > 0) return `${end.open} things left open`
    const after = afterBoot(await digestOf(world, to))
    return difference(expected, after).join('\n    ')
  }
})

/** Numbers of runs and keys that libvirt was told do not outlast a boot. */
function afterBoot(lines: readonly string[]): string[] {
  return lines.filter((line) => line !== 'secret').map((line) => line.replace(/"run":(\d+|null)/, '"run":0'))
}

/** What was told to others is in the journal. Throws what opening it throws. */
function requireKnown(state: string, { snapshot }: Moment, about: string): void {
  using journal = new Journal(join(state, database), { clock: systemClock })
  for (const { id, verb, acknowledged, results } of snapshot) {
    if (acknowledged) assert.ok(journal.find(id), `${about}: ${verb} was acknowledged and is forgotten`)
    const [result] = results
    if (result !== undefined)
      assert.deepEqual(journal.find(id)?.result, result, `${about}: the result of ${verb} was told`)
  }
}

type Lay = (state: string) => string

/** Ways in which the newest write may be on the disk: the beginning of it over what was there before, or before zeros. */
function cutsOf(before: Moment | undefined, moment: Moment): Lay[] {
  const read = (of: Moment | undefined, name: string) => {
    const path = of && join(of.directory, 'state', name)
    return path !== undefined && existsSync(path) ? readFileSync(path) : Buffer.alloc(0)
  }
  const lays: Lay[] = []
  for (const name of [ahead, database]) {
    const [old, now] = [read(before, name), read(moment, name)]
    const [first, last] = changedRange(old, now)
    if (first === last) continue
    // Pages of the database itself are written from the log, which stays until all of them are on the disk.
    for (const at of spread(first, last, cutsOfEach)) {
      const cut = name === database ? Math.floor(at / pageBytes) * pageBytes : at
      lays.push((state) => {
        const whole = cut === last ? now : Buffer.concat([now.subarray(0, cut), old.subarray(cut)])
        writeFileSync(join(state, name), whole)
        return `${name} new up to ${cut}`
      })
      if (name === ahead && old.length < cut)
        lays.push((state) => {
          writeFileSync(
            join(state, name),
            Buffer.concat([now.subarray(0, cut), Buffer.alloc(now.length - cut)])
          )
          return `${name} new up to ${cut} and then zeros`
        })
    }
  }
  return lays
}

function changedRange(old: Buffer, now: Buffer): [number, number] {
  const length = Math.max(old.length, now.length)
  let first = 0
  while (first < length && old[first] === now[first]) first++
  let last = length
  while (last > first && old[last - 1] === now[last - 1]) last--
  return [first, last]
}

function spread(from: number, to: number, count: number): number[] {
  const step = Math.max(1, (to - from) / count)
  const places: number[] = []
  for (let at = from; at <= to; at += step) places.push(Math.floor(at))
  return places
}
