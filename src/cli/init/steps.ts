// Steps of a set-up: each knows whether it is done already, so that a second run goes on where the first one ended.

import { asHostletError, HostletError } from '../../errors.ts'

export interface Step {
  /** What is done, as an order: `write /etc/hostlet/agent.yaml`. */
  readonly what: string
  /** `before` are the steps before it that are yet to be done. */
  isDone(before: readonly Step[]): boolean | Promise<boolean>
  /** What is to be told of how it went, if anything. */
  act(): Promise<string | undefined>
  /** What to look at, or to run by hand, when it fails. */
  readonly help: string
}

export async function stepsToDo(steps: readonly Step[]): Promise<Step[]> {
  const found: Step[] = []
  for (const step of steps) if (!(await step.isDone([...found]))) found.push(step)
  return found
}

/** One after another. Throws what the step threw, with what was done before it and how to go on. */
export async function carryOut(steps: readonly Step[], tell: (line: string) => void): Promise<void> {
  for (const [index, step] of steps.entries())
    try {
      const said = await step.act()
      tell(`  done  ${step.what}${said === undefined ? '' : `: ${said}`}`)
    } catch (thrown) {
      throw interrupted(asHostletError(thrown), { step, done: index, left: steps.length - index - 1 })
    }
}

function interrupted(
  error: HostletError,
  { step, done, left }: { step: Step; done: number; left: number }
): HostletError {
  const far = `${done} ${done === 1 ? 'step is' : 'steps are'} done and stay; ${left} after it are not`
  const message = error.message.replace(/[.\s]*$/, '').replace(/[^?!]$/, '$&.')
  return new HostletError(
    error.code,
    `it came no further than to ${step.what}: ${message}\n${step.help}\n${far}. Run the same line again: it goes on from there.`,
    { cause: error, details: error.details }
  )
}
