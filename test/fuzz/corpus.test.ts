// Every parser of what others send, with inputs that are almost right: each kept one, and a stated number of mutants of them.
// More by hand, and a failing seed again: node test/fuzz/run.ts TARGET --inputs N --seed N

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { mutant, randomOf } from './mutate.ts'
import { corpusOf, targets } from './targets.ts'

const inputs = Number(process.env.FUZZ_INPUTS ?? 2_000)
const seed = Number(process.env.FUZZ_SEED ?? Date.now() & 0x7fff_ffff)

describe(`parsers and a kept corpus (${inputs} mutants each, seed ${seed}: FUZZ_INPUTS, FUZZ_SEED)`, () => {
  for (const [name, target] of Object.entries(targets)) {
    it(`${name}: takes what the real thing sent`, async () => {
      const corpus = corpusOf(name)
      assert.ok(corpus.length >= 3, `${corpus.length} kept inputs`)
      const taken = await Promise.all(corpus.map((input) => target.run(input)))
      assert.ok(taken.includes(true), 'nothing was taken: the target looks at something else')
    })

    it(`${name}: ends in an answer or in an error with its code, whatever is changed`, async (t) => {
      const corpus = corpusOf(name)
      const random = randomOf(seed)
      let refused = 0
      for (let count = 0; count < inputs; count++) {
        const input = mutant(corpus, random)
        try {
          if (!(await target.run(input))) refused++
        } catch (error) {
          throw new Error(
            `input ${count} of seed ${seed}, kept with: node test/fuzz/run.ts ${name} --seed ${seed} --inputs ${count + 1}`,
            { cause: error }
          )
        }
      }
      t.diagnostic(`${name}: ${inputs} inputs, ${refused} refused`)
      assert.ok(refused > inputs / 10, `${refused} of ${inputs} were refused: they are no mutants`)
    })
  }
})
