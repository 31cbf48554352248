// The crash campaign: the agent is killed after every effect of every verb, started again, and looked at.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { verbs } from '../../../src/agent/verbs/registry.ts'
import { Campaign, type Tally } from './campaign.ts'

/** Scenarios whose name matches: a part of the campaign, for whoever looks into one. */
const only = new RegExp(process.env.HOSTLET_CAMPAIGN ?? '')
/** Every so manieth effect is killed after, from another one each time; a stride of 1 takes all of them. */
const stride = Number(process.env.HOSTLET_CAMPAIGN_STRIDE ?? 8)
const first = Number(process.env.HOSTLET_CAMPAIGN_FIRST ?? Math.floor(Math.random() * stride))
const faultsShown = 5

describe('an agent that is killed after any effect of a verb', { timeout: 1_800_000 }, () => {
  // In memory: what a killed process wrote stays there as well, and thousands of flushes cost nothing.
  const directory = mkdtempSync('/dev/shm/hostlet-campaign-')
  let campaign: Campaign | undefined
  let tallies: readonly Tally[]

  before(async () => {
    campaign = await Campaign.create(directory)
    await campaign.prepare(campaign.scenarios.filter(({ name }) => only.test(name)))
    await campaign.killAll({ stride, first })
    tallies = [...campaign.tallies.values()]
  })
  after(async () => {
    await campaign?.[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  })

  it('has every verb in its table', () => {
    assert.ok(campaign)
    const covered = new Set(campaign.scenarios.map(({ verb }) => verb))
    assert.deepEqual(
      verbs.map(({ name }) => name).filter((name) => !covered.has(name)),
      []
    )
  })

  it('ends each operation once, as if nobody had killed it, and leaves nothing', (context) => {
    assert.ok(campaign)
    const sum = (of: (tally: Tally) => number) => tallies.reduce((total, tally) => total + of(tally), 0)
    for (const { scenario, points, kills, faults } of tallies)
      context.diagnostic(`${scenario.name}: ${points} points, ${kills} kills, ${faults.length} faults`)
    context.diagnostic(
      `HOSTLET_CAMPAIGN_STRIDE=${stride} HOSTLET_CAMPAIGN_FIRST=${first}: ${new Set(tallies.map(({ scenario }) => scenario.verb)).size} verbs, ${tallies.length} scenarios, ${sum(({ points }) => points)} points, ${sum(({ kills }) => kills)} kills, ${campaign.processes} processes`
    )
    const faulty = tallies.filter(({ faults }) => faults.length > 0)
    const told = faulty.map(
      ({ scenario, faults }) =>
        `${scenario.name}: ${faults.length} faults\n  ${faults.slice(0, faultsShown).join('\n  ')}`
    )
    assert.equal(
      told.length,
      0,
      `HOSTLET_CAMPAIGN_STRIDE=${stride} HOSTLET_CAMPAIGN_FIRST=${first}\n${told.join('\n')}`
    )
  })
})
