/** Decoding in slices: a large payload a few milliseconds at a time, so that the event loop turns in between. */
import { setImmediate } from 'node:timers/promises'
import { XdrReader } from './reader.ts'
import { stepsOf, type Type } from './type.ts'

/** Of decoding in a row. One more element, whatever else the loop's turn does, and not yet compiled code come on top. */
const SLICE_MS = 4

/**
 * As `decodeAll`, with pauses between the elements of the lists that stand in the outermost structs. The payload must
 * stay as it is meanwhile. `nowMs` is a monotonic clock.
 */
export async function decodeInSlices<Out>(
  type: Type<Out, never>,
  payload: Uint8Array,
  nowMs: () => number
): Promise<Out> {
  const reader = new XdrReader(payload)
  const steps = stepsOf(type, reader)
  let step = steps.next()
  for (let sliceEndsMs = nowMs() + SLICE_MS; !step.done; step = steps.next()) {
    if (nowMs() < sliceEndsMs) continue
    await setImmediate()
    sliceEndsMs = nowMs() + SLICE_MS
  }
  reader.finish()
  return step.value
}
