// Commands that are under way outlive the key they were signed with: the same bytes, signed by the key that stays.

import { createPublicKey, verify } from 'node:crypto'
import { commandJwsType } from '../../protocol/command.ts'
import type { CommandKey } from '../../protocol/enrollment.ts'
import type { CommandSigner } from '../identity/command-signer.ts'
import type { Store } from '../store/store.ts'
import type { OpenCommand } from '../store/trust-store.ts'

/** Commands that one transaction changes. */
const batchMax = 500

/**
 * Signs anew what has not ended and was signed by the key that is dropped. A host knows a command by its id and content, so
 * that one which it has already is still done once. What the key did not sign is left alone: hosts refuse it. Resolves with
 * their number.
 */
export async function resignOpenCommands(options: {
  readonly store: Pick<Store, 'trust'>
  readonly signer: CommandSigner
  readonly dropped: CommandKey
}): Promise<number> {
  const { store, signer, dropped } = options
  let [after, count] = [0, 0]
  for (;;) {
    const commands = await store.trust.openCommands(after, batchMax)
    const last = commands.at(-1)
    if (last === undefined) return count
    const signed: OpenCommand[] = []
    for (const command of commands) {
      const payload = payloadOf(command.jws, dropped)
      if (payload !== undefined)
        signed.push({ ...command, jws: await signer.signPayload(payload, commandJwsType) })
    }
    await store.trust.resigned(signed)
    count += signed.length
    after = last.sequence
  }
}

/** Undefined where that key did not sign it. */
function payloadOf(jws: string, { kid, kty, crv, x }: CommandKey): Uint8Array | undefined {
  const [head = '', body = '', signature = ''] = jws.split('.')
  if (kidOf(head) !== kid) return undefined
  const key = createPublicKey({ format: 'jwk', key: { kty, crv, x } })
  const isGood = verify(null, Buffer.from(`${head}.${body}`), key, Buffer.from(signature, 'base64url'))
  return isGood ? Buffer.from(body, 'base64url') : undefined
}

function kidOf(head: string): unknown {
  try {
    return (JSON.parse(Buffer.from(head, 'base64url').toString('utf8')) as { kid?: unknown } | null)?.kid
  } catch {
    // No JWS: nobody signed it.
    return undefined
  }
}
