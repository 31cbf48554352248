// The list of VMs: its filters are in the address, so that a view can be kept and passed on.

import { html } from 'htm/preact'
import { useEffect, useState } from 'preact/hooks'
import { useApp } from '../context.ts'
import { useFleet } from '../fleet.ts'
import { count } from '../format.ts'
import { Heading } from '../parts/small.ts'
import { VmTable } from '../parts/vm-table.ts'
import { withQuery } from '../routes.ts'

const pageRows = 100
const states = [
  'running',
  'stopped',
  'pending',
  'paused',
  'stopping',
  'crashed',
  'suspended',
  'missing',
  'retained',
  'unknown'
]

export function VmsPage() {
  const { query, go } = useApp()
  const { status } = useFleet()
  const [trail, setTrail] = useState<readonly string[]>([])
  const search = query.get('search') ?? ''
  const state = query.get('state') ?? ''
  const host = query.get('host') ?? ''
  const isAmiss = query.get('amiss') === 'true'
  const filterText = query.toString()
  useEffect(() => setTrail([]), [filterText])
  const change = (fields: Record<string, string | boolean | undefined>) =>
    go(withQuery('/vms', { search, state, host, amiss: isAmiss || undefined, ...fields }), { replace: true })
  const isFiltered = filterText !== ''
  return html`
    <${Heading} title="VMs">
      <span class="faint">${status && `${count(status.vms.total)} in the fleet, ${count(status.vms.running)} running`}</span>
    <//>
    <div class="filters" role="group" aria-label="Which VMs">
      <input type="search" placeholder="Name, host, address or profile" aria-label="Name, host, address or profile" value=${search}
        onInput=${(event: InputEvent) => change({ search: (event.target as HTMLInputElement).value })} />
      <select aria-label="State" value=${state} onChange=${(event: Event) => change({ state: (event.target as HTMLSelectElement).value })}>
        <option value="">Any state</option>
        ${states.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
      </select>
      <label class="choice"><input type="checkbox" checked=${isAmiss} onChange=${() => change({ amiss: isAmiss ? undefined : true })} /><span>Only what is amiss</span></label>
      ${host !== '' && html`<span class="chip">on ${host} <button class="plain" aria-label=${`Not only those on ${host}`} onClick=${() => change({ host: '' })}>×</button></span>`}
      ${isFiltered && html`<button class="plain" onClick=${() => go('/vms', { replace: true })}>Clear</button>`}
    </div>
    <${VmTable}
      filter=${{ search: search.trim(), state, host: host === '' ? undefined : host, amiss: isAmiss || undefined }}
      trail=${trail}
      limit=${pageRows}
      empty=${isFiltered ? 'No VM is like that.' : 'There is no VM yet. "hostlet vm create" makes one.'}
      onTrail=${setTrail}
    />`
}
