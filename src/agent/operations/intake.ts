// Commands as they come in: a bounded number at a time, and those of one VM one after the other, in the order of arrival.

import { HostletError } from '../../errors.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import { retryAfterMsMin } from '../../lib/limiter.ts'
import { commandBytesMax } from '../../protocol/command.ts'

/** Commands that are being looked at and neither refused nor recorded yet. */
export const receivingMax = 64
/** Those of one VM among them that wait for the one before: a libvirt that hangs leaves room for others. */
export const waitingOfVmMax = 32

export class Intake {
  readonly #vms = new KeyedLock({ waitersMax: waitingOfVmMax })
  #received = 0

  /**
   * Has a command answered once those of its VM that came before it are: a newer generation that were recorded first would
   * have the older one refused for good. The place in the queue is taken before this returns. Throws E_BUSY.
   */
  async take(jws: string, answer: () => Promise<void>): Promise<void> {
    if (this.#received >= receivingMax)
      throw new HostletError('E_BUSY', 'the agent takes no more commands now. Try again later.', {
        details: { retryAfterMs: retryAfterMsMin }
      })
    this.#received++
    try {
      const vm = vmOf(jws)
      await using _turn = vm === undefined ? undefined : await this.#vms.acquire(vm)
      await answer()
    } finally {
      this.#received--
    }
  }
}

/** Whom it says to be about. Nothing but the order hangs on it: its signature is looked at afterwards. */
function vmOf(jws: string): string | undefined {
  if (jws.length > commandBytesMax) return undefined
  try {
    const claims = JSON.parse(Buffer.from(jws.split('.')[1] ?? '', 'base64url').toString('utf8'))
    const uuid: unknown = claims?.subject?.uuid
    return typeof uuid === 'string' ? uuid : undefined
  } catch {
    // No command at all: whoever looks at it says so.
    return undefined
  }
}
