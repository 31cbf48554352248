// The search of the header: hosts, VMs and operations by a part of their name, as one types.

import { html } from 'htm/preact'
import { useEffect, useMemo, useState } from 'preact/hooks'
import type { VmList } from '../../../protocol/api.ts'
import { useApp } from '../context.ts'
import { type Fleet, useFleet } from '../fleet.ts'
import { usePoll } from '../poll.ts'
import { pathTo, withQuery } from '../routes.ts'

export const searchFieldId = 'search'
const hitsMax = 8
const typingPauseMs = 150
const operationId = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

interface Hit {
  readonly kind: string
  readonly name: string
  readonly detail: string
  readonly path: string
}

export function Search() {
  const app = useApp()
  const fleet = useFleet()
  const [text, setText] = useState('')
  const [isOpen, setOpen] = useState(false)
  const [chosen, setChosen] = useState(0)
  const word = useSettled(text.trim().toLowerCase())
  const vms = usePoll<VmList>(
    word === '' ? undefined : withQuery('/v1/vms', { search: word, limit: hitsMax }),
    60_000
  )
  const hits = useMemo(() => (word === '' ? [] : hitsOf(word, fleet, vms.data)), [word, fleet, vms.data])
  const close = () => {
    setOpen(false)
    setText('')
    setChosen(0)
  }
  const open = (hit: Hit | undefined) => {
    app.go(hit?.path ?? withQuery('/vms', { search: text.trim() }))
    close()
  }
  const press = (event: KeyboardEvent) => {
    if (event.key === 'Escape') {
      close()
      ;(event.target as HTMLElement).blur()
    } else if (event.key === 'Enter' && text.trim() !== '') open(hits[chosen])
    else if (event.key === 'ArrowDown') setChosen(Math.min(hits.length - 1, chosen + 1))
    else if (event.key === 'ArrowUp') setChosen(Math.max(0, chosen - 1))
    else return
    event.preventDefault()
  }
  const isShown = isOpen && word !== ''
  return html`<div class="search" role="search">
    <input
      id=${searchFieldId}
      type="search"
      role="combobox"
      placeholder="Search"
      aria-label="Search hosts, VMs and operations"
      aria-keyshortcuts="/"
      aria-expanded=${isShown}
      aria-controls="search-hits"
      aria-activedescendant=${isShown && hits.length > 0 ? `hit-${chosen}` : undefined}
      autocomplete="off"
      spellcheck="false"
      value=${text}
      onInput=${(event: InputEvent) => {
        setText((event.target as HTMLInputElement).value)
        setChosen(0)
        setOpen(true)
      }}
      onKeyDown=${press}
      onFocus=${() => setOpen(true)}
      onBlur=${() => setOpen(false)}
    />
    <kbd aria-hidden="true">/</kbd>
    <ul id="search-hits" role="listbox" aria-label="Found" hidden=${!isShown}>
      ${hits.map(
        (hit, index) => html`<li
          key=${hit.path}
          id=${`hit-${index}`}
          role="option"
          aria-selected=${index === chosen}
          onMouseDown=${(event: MouseEvent) => {
            event.preventDefault()
            open(hit)
          }}
        ><span class="kind">${hit.kind}</span> <b><bdi>${hit.name}</bdi></b> <span class="faint"><bdi>${hit.detail}</bdi></span></li>`
      )}
      ${hits.length === 0 && html`<li class="faint" role="option" aria-selected="false">${vms.data === undefined ? 'Looking…' : 'Nothing has that in its name'}</li>`}
    </ul>
  </div>`
}

function hitsOf(word: string, { hosts }: Fleet, vms: VmList | undefined): readonly Hit[] {
  const ofHosts = hosts
    .filter(({ host }) => host.id.includes(word) || host.hostname.toLowerCase().includes(word))
    .map(({ host }) => ({
      kind: 'host',
      name: host.hostname,
      detail: host.id,
      path: pathTo('host', host.id)
    }))
  const ofVms = (vms?.vms ?? []).map(({ name, host, state }) => ({
    kind: 'VM',
    name,
    detail: `${state} on ${host}`,
    path: pathTo('vm', name)
  }))
  const operations = operationId.test(word)
    ? [{ kind: 'operation', name: word, detail: '', path: pathTo('operation', word) }]
    : []
  return [...operations, ...ofVms, ...ofHosts].slice(0, hitsMax)
}

/** What was typed once the typing pauses. */
function useSettled(text: string): string {
  const [settled, setSettled] = useState(text)
  useEffect(() => {
    const timer = setTimeout(() => setSettled(text), typingPauseMs)
    return () => clearTimeout(timer)
  }, [text])
  return text === '' ? '' : settled
}
