// The simulation bites: every small fault that is put into the product on purpose breaks a promise within some hundred worlds.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { mutations } from '../mutations.ts'
import { simulate } from './children.ts'

const seedsMax = 600

describe('the simulation finds it when', { concurrency: 2 }, () => {
  for (const [name, { fault, from = 1 }] of Object.entries(mutations))
    it(fault, async (t) => {
      const { broken, seeds } = await simulate([
        ...['--mutation', name],
        ...['--from', String(from), '--seeds', String(seedsMax)]
      ])
      t.diagnostic(`${name}: ${broken[0]?.promise} after ${seeds} seeds`)
      assert.ok(broken.length > 0, `${seedsMax} worlds did not notice`)
    })
})
