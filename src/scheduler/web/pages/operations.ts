// The list of operations, the newest first, with what is under way as it moves.

import { html } from 'htm/preact'
import { useState } from 'preact/hooks'
import type { OperationList } from '../../../protocol/api.ts'
import { useApp } from '../context.ts'
import { OperationTable } from '../parts/operations.ts'
import { Heading, Standing } from '../parts/small.ts'
import { listMs, liveMs, usePoll } from '../poll.ts'
import { withQuery } from '../routes.ts'

const pageRows = 100
export const listRowsMax = 1_000

const views: readonly {
  readonly name: string
  readonly label: string
  readonly query: Record<string, string>
}[] = [
  { name: 'all', label: 'All', query: {} },
  { name: 'open', label: 'Under way', query: { open: 'true' } },
  { name: 'failed', label: 'Failed', query: { state: 'failed' } },
  { name: 'expired', label: 'Expired', query: { state: 'expired' } }
]

export function OperationsPage() {
  const { query, go } = useApp()
  const [limit, setLimit] = useState(pageRows)
  const name = query.get('view') ?? 'all'
  const view = views.find((candidate) => candidate.name === name) ?? views[0]
  const vm = query.get('vm') ?? ''
  const host = query.get('host') ?? ''
  const polled = usePoll<OperationList>(
    withQuery('/v1/operations', { ...view?.query, vm, host, limit }),
    limit > pageRows ? listMs : liveMs
  )
  const operations = polled.data?.operations ?? []
  const change = (fields: Record<string, string>) =>
    go(withQuery('/operations', { view: name, vm, host, ...fields }), { replace: true })
  return html`
    <${Heading} title="Operations" />
    <div class="filters">
      <div class="tabs" role="group" aria-label="Which operations">
        ${views.map((one) => html`<button key=${one.name} aria-pressed=${one === view} onClick=${() => change({ view: one.name })}>${one.label}</button>`)}
      </div>
      ${vm !== '' && html`<span class="chip">of ${vm} <button class="plain" aria-label="Of all VMs" onClick=${() => change({ vm: '' })}>×</button></span>`}
      ${host !== '' && html`<span class="chip">on ${host} <button class="plain" aria-label="On all hosts" onClick=${() => change({ host: '' })}>×</button></span>`}
    </div>
    <${Standing} of=${polled} />
    ${polled.data && html`<${OperationTable} operations=${operations} empty="There is none." onDone=${polled.refresh} />`}
    ${polled.data?.more && limit < listRowsMax && html`<button onClick=${() => setLimit(Math.min(listRowsMax, limit * 4))}>Show more</button>`}`
}
