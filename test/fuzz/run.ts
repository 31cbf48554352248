// Fuzzing by hand, for as long as one likes; an input that finds a fault is kept in the corpus, and tried in every run of the tests.
//
//   node test/fuzz/run.ts [TARGET]... [--inputs N] [--seed N]

import { parseArgs } from 'node:util'
import { mutant, randomOf } from './mutate.ts'
import { corpusOf, keep, targets } from './targets.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { inputs: { type: 'string', default: '1000000' }, seed: { type: 'string' } }
})
const seed = Number(values.seed ?? Date.now() & 0x7fff_ffff)
const inputs = Number(values.inputs)
const names = positionals.length > 0 ? positionals : Object.keys(targets)
for (const name of names) process.exitCode = (await fuzz(name)) ? process.exitCode : 1

async function fuzz(name: string): Promise<boolean> {
  const target = targets[name]
  if (target === undefined) {
    say(`There is no target "${name}": ${Object.keys(targets).join(', ')}.`)
    return false
  }
  const corpus = corpusOf(name)
  const random = randomOf(seed)
  const startedAt = performance.now()
  for (let count = 0; count < inputs; count++) {
    const input = mutant(corpus, random)
    try {
      await target.run(input)
    } catch (error) {
      say(
        `${name}: input ${count} of seed ${seed} finds a fault; kept as ${keep(name, `found-${seed}-${count}`, input)}`
      )
      say(String((error as Error).stack))
      return false
    }
  }
  const seconds = (performance.now() - startedAt) / 1_000
  say(`${name}: ${inputs} inputs of seed ${seed}, no fault, ${Math.round(inputs / seconds)} a second`)
  return true
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
