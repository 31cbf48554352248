// The frame around every page: where one is, where one can go, search, theme, and who is signed in.

import { html } from 'htm/preact'
import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { useApp } from '../context.ts'
import { useFleet } from '../fleet.ts'
import { type Page, pathTo } from '../routes.ts'
import { Search } from './search.ts'

const entries: readonly { readonly page: Page; readonly label: string; readonly also?: readonly Page[] }[] = [
  { page: 'overview', label: 'Overview' },
  { page: 'hosts', label: 'Hosts', also: ['host'] },
  { page: 'vms', label: 'VMs', also: ['vm', 'console'] },
  { page: 'operations', label: 'Operations', also: ['operation'] },
  { page: 'backups', label: 'Backups' },
  { page: 'conditions', label: 'Conditions' },
  { page: 'audit', label: 'Audit' }
]

export interface ShellProps {
  readonly page: Page | undefined
  readonly children: ComponentChildren
  onHelp(): void
  onTheme(): void
  onSignOut(): void
}

export function Shell({ page, children, onHelp, onTheme, onSignOut }: ShellProps) {
  const { session } = useApp()
  const { status, polled } = useFleet()
  const [isOpen, setOpen] = useState(false)
  return html`<div class="shell">
    <a class="skip" href="#main">Skip to the content</a>
    <header class="bar">
      <button class="menu" aria-expanded=${isOpen} aria-controls="nav" onClick=${() => setOpen(!isOpen)}>Menu</button>
      <a class="brand" href="/"><span class="mark" aria-hidden="true"></span>hostlet</a>
      <${Search} />
      <div class="bar-end">
        <button class="plain" title="Light or dark (t)" onClick=${onTheme}>Theme</button>
        <button class="plain keys-button" title="Keys (?)" onClick=${onHelp}>Keys</button>
        <span class="who" title=${`Tier ${session.tier}`}><bdi>${session.note || 'signed in'}</bdi> · ${session.tier}</span>
        <button onClick=${onSignOut}>Sign out</button>
      </div>
    </header>
    <nav id="nav" class=${isOpen ? 'open' : ''} aria-label="Pages" onClick=${() => setOpen(false)}>
      <ul>
        ${entries.map(
          ({ page: entry, label, also }) => html`<li key=${entry}>
            <a href=${pathTo(entry)} aria-current=${page === entry ? 'page' : page !== undefined && also?.includes(page) ? 'true' : undefined}>
              ${label}<${Count} page=${entry} />
            </a>
          </li>`
        )}
      </ul>
      <p class="version faint">${status && `scheduler ${status.version}`}</p>
    </nav>
    <main id="main" tabindex="-1">
      ${polled.error !== undefined && polled.data !== undefined && html`<p class="note warning" role="status">The scheduler does not answer now. What is shown is the last that was known; it is asked again.</p>`}
      ${children}
    </main>
  </div>`
}

function Count({ page }: { page: Page }) {
  const { status, conditions } = useFleet()
  const grave = conditions.filter(({ severity }) => severity !== 'info')
  const isBad = grave.some(({ severity }) => severity === 'critical')
  if (page === 'conditions' && grave.length > 0)
    return html`<span class=${`count ${isBad ? 'bad' : 'warning'}`}>${grave.length}<span class="unseen"> to look at</span></span>`
  if (page === 'operations' && (status?.operations.open ?? 0) > 0)
    return html`<span class="count">${status?.operations.open}<span class="unseen"> under way</span></span>`
  if (page === 'hosts' && (status?.hosts.away ?? 0) > 0)
    return html`<span class="count bad">${status?.hosts.away}<span class="unseen"> away</span></span>`
  return null
}
