// Steps that do not depend on one another, carried out at the same time as one step.

import type { Operation, Step, StepNotes } from './verb.ts'

/**
 * One step out of several: all are applied side by side, and all are undone side by side. None is left running when it
 * ends: the first failure is thrown once every part has ended.
 */
export function together(steps: readonly Step[]): Step {
  return {
    name: steps.map(({ name }) => name).join(', '),
    apply: async (operation) => {
      const notes = await allOf(steps.map((step) => applied(step, operation)))
      return Object.assign({}, ...notes)
    },
    undo: async (operation) => {
      await allOf(steps.map(async (step) => await step.undo?.(operation)))
    }
  }
}

async function applied(step: Step, operation: Operation): Promise<StepNotes> {
  return (await step.apply(operation)) ?? {}
}

async function allOf<Value>(parts: readonly Promise<Value>[]): Promise<Value[]> {
  await Promise.allSettled(parts)
  return await Promise.all(parts)
}
