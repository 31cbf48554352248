// Runs one figure in this process, apart from the others' heap and compiled code, and sends its result to the parent.

import type { Figure } from './harness.ts'
import { NotRun } from './harness.ts'

const [name = '', quick] = process.argv.slice(2)
const { figure } = (await import(`./figures/${name}.ts`)) as { figure: Figure }

async function measure() {
  try {
    return await figure.run({ quick: quick === 'quick', log: (line) => console.error(`    ${line}`) })
  } catch (error) {
    if (error instanceof NotRun) return { notRun: error.message }
    throw error
  }
}

const result = await measure()
process.send?.({ title: figure.title, result })
process.disconnect?.()
