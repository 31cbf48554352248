// A seed says everything: the same one twice goes the same way, step by step.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { campaign } from './campaign.ts'

const seeds = 150

it(`goes the same way twice in each of ${seeds} worlds`, async () => {
  const { broken, seeds: run } = await campaign({ from: 20_001, seeds, twice: true })
  assert.equal(run, seeds)
  assert.deepEqual(
    broken.filter(({ promise }) => promise === 'sameCourse'),
    []
  )
})
