// One operation: how far it is, how it ended, and what to do now.

import { html } from 'htm/preact'
import type { OperationReply, OperationView } from '../../../protocol/api.ts'
import { duration, moment } from '../format.ts'
import { CancelDeed, isOpen } from '../parts/actions.ts'
import { OperationBadge } from '../parts/badge.ts'
import { Progress } from '../parts/progress.ts'
import { Ago, Facts, Foreign, Heading, Panel, Standing } from '../parts/small.ts'
import { liveMs, usePoll } from '../poll.ts'
import { pathTo } from '../routes.ts'

export function OperationPage({ name: id }: { name: string }) {
  const path = `/v1/operations/${encodeURIComponent(id)}`
  const first = usePoll<OperationReply>(path, liveMs)
  const operation = first.data?.operation
  if (operation === undefined) return html`<${Heading} title="Operation" /><${Standing} of=${first} />`
  const { verb, vm, host } = operation
  return html`
    <${Heading} title=${`${verb} of ${vm ?? host}`} aside=${html`<${CancelDeed} operation=${operation} onDone=${first.refresh} />`}>
      <${OperationBadge} operation=${operation} />
    <//>
    <${Standing} of=${first} />
    ${isOpen(operation) && html`<${Panel} title="Progress"><div class="pad"><${Progress} operation=${operation} /></div><//>`}
    ${operation.error && html`<${Panel} title="Why it failed"><p class="pad"><code>${operation.error.code}</code> <${Foreign} text=${operation.error.message} /></p><//>`}
    <p class="next"><b>Next:</b> <${Foreign} text=${operation.next} /></p>
    <${Panel} title="Details"><${OperationFacts} operation=${operation} /><//>
    ${operation.value && Object.keys(operation.value).length > 0 && html`<${Panel} title="Result"><pre class="pad">${JSON.stringify(operation.value, null, 2)}</pre><//>`}`
}

function OperationFacts({ operation }: { operation: OperationView }) {
  const { id, vm, host, createdAt, startedAt, finishedAt, expiresAt } = operation
  return html`<${Facts} of=${[
    ['VM', vm && html`<a href=${pathTo('vm', vm)}>${vm}</a>`],
    ['Host', html`<a href=${pathTo('host', host)}>${host}</a>`],
    ['Asked', html`${moment(createdAt)} (<${Ago} at=${createdAt} />)`],
    ['Begun', startedAt && moment(startedAt)],
    ['Ended', finishedAt && moment(finishedAt)],
    ['Took', startedAt && finishedAt && duration(finishedAt - startedAt)],
    ['Expires unless taken', isOpen(operation) && startedAt === undefined && moment(expiresAt)],
    ['Id', html`<code>${id}</code>`]
  ]} />`
}
