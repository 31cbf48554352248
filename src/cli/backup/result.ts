// The result of an operation in the form of its verb, for the line that says what was done.

import type { Static, TSchema } from '../../lib/schema.ts'
import type { OperationView } from '../../protocol/api.ts'
import { compile } from '../../protocol/validate.ts'

/** Undefined where the host answered in another form, as one of another release may. */
export function readResult<Schema extends TSchema>(
  schema: Schema,
  operation: OperationView
): Static<Schema> | undefined {
  try {
    return compile(schema, operation.verb)(operation.value)
  } catch {
    // What is printed as JSON is the answer itself; only the sentence has less to say.
    return undefined
  }
}
