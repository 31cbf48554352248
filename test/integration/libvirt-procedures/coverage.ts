// Keeps which declared procedures and events were seen at work, and calls on behalf of tests so that it knows.

import assert from 'node:assert/strict'
import { LibvirtError } from '../../../src/node-libvirt/errors.ts'
import type { Procedure } from '../../../src/node-libvirt/protocol/procedure.ts'
import type { AnyType, Infer, InferInput } from '../../../src/node-libvirt/xdr/schema.ts'

const CALL_DEADLINE_MS = 60_000

export interface Caller {
  call<A extends AnyType, R extends AnyType>(
    procedure: Procedure<A, R>,
    args: InferInput<A>,
    options: { deadlineMs: number }
  ): Promise<Infer<R>>
}

export class Coverage {
  readonly #seen = new Set<unknown>()

  /** `declaration` was seen to work. */
  saw(declaration: unknown): void {
    this.#seen.add(declaration)
  }

  has(declaration: unknown): boolean {
    return this.#seen.has(declaration)
  }
}

export class Exercise {
  readonly #caller: Caller
  readonly #coverage: Coverage

  constructor(caller: Caller, coverage: Coverage) {
    this.#caller = caller
    this.#coverage = coverage
  }

  /** The result, which decoded to its last byte: the client refuses any other. */
  async ok<A extends AnyType, R extends AnyType>(
    procedure: Procedure<A, R>,
    args: InferInput<A>
  ): Promise<Infer<R>> {
    const result = await this.#caller.call(procedure, args, { deadlineMs: CALL_DEADLINE_MS })
    this.#coverage.saw(procedure)
    return result
  }

  /** The caller moved bytes through the stream that this procedure opens. */
  streamed(procedure: Procedure): void {
    assert.notEqual(procedure.stream, null)
    this.#coverage.saw(procedure)
  }

  /**
   * libvirt must refuse with one of `codes`. Counts as seen at work: the server took the arguments apart as they
   * were meant, since it answers those it cannot decode with a code of their own (39, of the RPC layer).
   */
  async refused<A extends AnyType, R extends AnyType>(
    procedure: Procedure<A, R>,
    args: InferInput<A>,
    ...codes: readonly number[]
  ): Promise<void> {
    try {
      await this.#caller.call(procedure, args, { deadlineMs: CALL_DEADLINE_MS })
    } catch (error) {
      assert.ok(error instanceof LibvirtError, String(error))
      assert.ok(codes.includes(error.code), `procedure ${procedure.number}: ${error.code} ${error.message}`)
      this.#coverage.saw(procedure)
      return
    }
    assert.fail(`procedure ${procedure.number} was not refused`)
  }
}
