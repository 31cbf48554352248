// What a verb's page says besides what its declaration says: errors, behaviour after a crash, an example.

import type { ErrorCode } from '../../errors.ts'

export interface VerbDocument {
  /** When each code of the error table is the answer. */
  readonly errors: Readonly<Partial<Record<ErrorCode, string>>>
  /** What happens to an operation that the agent was killed in. */
  readonly crash: string
  readonly remarks?: readonly string[]
  /** Arguments that fit the verb's schema. */
  readonly example: Readonly<Record<string, unknown>>
}
