// The reporter inside each test process: one JSON line for each test that ended, for run-file.ts to count.
import type { TestEvent } from 'node:test/reporters'
import type { TestOutcome } from './run-file.ts'

/** node:test wraps what a test threw; `failureType` says where it came from. */
type FailedTest = Error & { failureType?: string }

const figure = 'figure: '

export default async function* reportOutcomes(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const path: string[] = []
  for await (const event of source) {
    if (event.type === 'test:start') path.splice(event.data.nesting, path.length, event.data.name)
    if (event.type === 'test:diagnostic' && event.data.message.startsWith(figure))
      yield `${JSON.stringify({ kind: 'figure', name: event.data.message.slice(figure.length) })}\n`
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue
    const { nesting, name, skip, todo, details } = event.data
    const error: FailedTest | undefined = 'error' in details ? details.error : undefined
    const outcome: TestOutcome = {
      name: [...path.slice(0, nesting), name].join(' > '),
      kind: details.type === 'suite' ? 'suite' : 'test',
      passed: event.type === 'test:pass',
      // A suite or a test that only fails because something inside it failed is not a failure of its own.
      ownFailure: event.type === 'test:fail' && error?.failureType !== 'subtestsFailed',
      ...(skip === undefined || skip === false ? {} : { skip: skip === true ? '' : String(skip) }),
      ...(todo === undefined || todo === false ? {} : { todo: todo === true ? '' : String(todo) }),
      ...(error ? { message: describeError(error) } : {})
    }
    yield `${JSON.stringify(outcome)}\n`
  }
}

function describeError(error: Error): string {
  const cause = error.cause
  if (cause instanceof Error) return cause.stack ?? cause.message
  return cause === undefined ? error.message : String(cause)
}
