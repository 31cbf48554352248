// What the head of a host's audit trail does: a receipt for one that goes on from those before, an alarm for one that does not.

import { HostletError } from '../../errors.ts'
import type { AgentMessageOf } from '../../protocol/messages.ts'
import type { Session } from './handlers.ts'

export async function noteHead(head: AgentMessageOf<'audit-head'>, session: Session): Promise<void> {
  const { store, host, now, log, send, witness } = session
  const { seq, hash } = head
  const at = now()
  const outcome = await store.trails.note(host, head, at)
  if (outcome.kind === 'ask') {
    await send({ type: 'audit-question', seq: outcome.seq })
    return
  }
  if (outcome.kind === 'kept') {
    const jws = await witness.receipt({ host, seq, hash, at })
    await send({ type: 'audit-receipt', jws })
    return
  }
  const text = `the audit trail of host ${host} is not the one that it was: ${outcome.message}. Look at it with "hostlet audit verify --scheduler" on the host; once it is explained, take it as it is with "hostlet audit accept ${host}".`
  if (outcome.isNew) {
    log.error({ seq, reason: outcome.message }, 'audit trail of a host was tampered with, or put back')
    await witness.record('host.audit-fault', {
      object: host,
      entry: seq,
      head: hash,
      message: outcome.message
    })
  }
  await send({ type: 'audit-refusal', seq, error: new HostletError('E_CONFLICT', text).toReport() })
}
