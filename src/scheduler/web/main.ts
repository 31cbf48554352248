// The application: who is signed in, which page is shown, and what lies over it.

import { html } from 'htm/preact'
import { render } from 'preact'
import { useCallback, useEffect, useMemo, useState } from 'preact/hooks'
import { Api, messageOf } from './api.ts'
import { Attendance } from './attendance.ts'
import { type Answer, type App, AppContext, type Question, type Session } from './context.ts'
import { FleetContext, usePolledFleet } from './fleet.ts'
import { AuditPage } from './pages/audit.ts'
import { BackupsPage } from './pages/backups.ts'
import { ConditionsPage } from './pages/conditions.ts'
import { ConsolePage } from './pages/console.ts'
import { HostPage } from './pages/host.ts'
import { HostsPage } from './pages/hosts.ts'
import { LoginPage } from './pages/login.ts'
import { OperationPage } from './pages/operation.ts'
import { OperationsPage } from './pages/operations.ts'
import { OverviewPage } from './pages/overview.ts'
import { VmPage } from './pages/vm.ts'
import { VmsPage } from './pages/vms.ts'
import { ConfirmDialog, HelpDialog } from './parts/dialogs.ts'
import { Shell } from './parts/shell.ts'
import { Heading } from './parts/small.ts'
import { type Page, placeOf } from './routes.ts'
import { useShortcuts } from './shortcuts.ts'

const api = new Api(new Attendance(window, () => performance.now()))

/** That somebody has signed in here, and no more: without it nobody asks with a session that is not there. */
const signedInName = 'signed-in'

const views: Readonly<Record<Page, (props: { name: string }) => unknown>> = {
  overview: OverviewPage,
  hosts: HostsPage,
  host: HostPage,
  vms: VmsPage,
  vm: VmPage,
  console: ConsolePage,
  operations: OperationsPage,
  operation: OperationPage,
  backups: BackupsPage,
  conditions: ConditionsPage,
  audit: AuditPage
}

/** Undefined: not known yet. Null: nobody. */
function Root() {
  const [session, setSession] = useState<Session | null>()
  const [reason, setReason] = useState('')
  const leave = useCallback((why: string) => {
    localStorage.removeItem(signedInName)
    setReason(why)
    setSession(null)
  }, [])
  const look = useCallback(async () => {
    try {
      setSession(await api.get<Session>('/v1/session'))
      localStorage.setItem(signedInName, 'yes')
    } catch (error) {
      if ((error as { status?: number }).status === 401) return leave('')
      setReason(messageOf(error))
      setSession(null)
    }
  }, [])
  useEffect(() => {
    api.onSignedOut = () => leave('The session has ended. Sign in again.')
    if (localStorage.getItem(signedInName) === null) setSession(null)
    else void look()
  }, [])
  if (session === undefined) return html`<p class="note faint alone" role="status">Loading…</p>`
  if (session === null) return html`<${LoginPage} api=${api} reason=${reason} onDone=${look} />`
  const signOut = async () => {
    try {
      await api.ask('DELETE', '/v1/session')
      leave('You are signed out.')
    } catch (error) {
      leave(`The session may last on: ${messageOf(error)} Sign in and out again to be sure.`)
    }
  }
  return html`<${SignedIn} session=${session} onSignOut=${signOut} />`
}

function SignedIn({ session, onSignOut }: { session: Session; onSignOut: () => void }) {
  const { path, search, hasMoved, go } = useLocation()
  const [question, ask] = useQuestion()
  const [toast, tell] = useToast()
  const [isHelp, setHelp] = useState(false)
  const help = useCallback(() => setHelp(true), [])
  const [areKeysOn, toggleKeys] = useShortcuts({ go, help, turnTheme })
  const app: App = useMemo(
    () => ({ api, session, query: new URLSearchParams(search), hasMoved, go, tell, confirm: ask }),
    [session, search, hasMoved]
  )
  return html`<${AppContext.Provider} value=${app}>
    <${Pages} path=${path} onHelp=${help} onSignOut=${onSignOut} />
    ${question && html`<${ConfirmDialog} question=${question.question} onAnswer=${question.answer} />`}
    ${isHelp && html`<${HelpDialog} isOn=${areKeysOn} onToggle=${toggleKeys} onClose=${() => setHelp(false)} />`}
    <div class="toasts" role="status" aria-live="polite">${toast && html`<p class=${`toast ${toast.tone}`}>${toast.text}</p>`}</div>
  <//>`
}

function Pages({ path, onHelp, onSignOut }: { path: string; onHelp: () => void; onSignOut: () => void }) {
  const fleet = usePolledFleet()
  const place = placeOf(path)
  const View = place && views[place.page]
  return html`<${FleetContext.Provider} value=${fleet}>
    <${Shell} page=${place?.page} onHelp=${onHelp} onTheme=${turnTheme} onSignOut=${onSignOut}>
      ${
        View === undefined
          ? html`<${Heading} title="There is no such page" /><p>Perhaps one of those in the menu.</p>`
          : html`<${View} key=${path} name=${place?.name} />`
      }
    <//>
  <//>`
}

/** Links within the application change the page without loading it anew. */
function useLocation() {
  const [place, setPlace] = useState({ path: location.pathname, search: location.search, hasMoved: false })
  const go = useCallback((path: string, { replace = false }: { replace?: boolean } = {}) => {
    const before = location.pathname
    history[replace ? 'replaceState' : 'pushState'](null, '', path)
    setPlace({ path: location.pathname, search: location.search, hasMoved: true })
    if (location.pathname !== before) leavePage()
  }, [])
  useEffect(() => {
    const back = () => setPlace({ path: location.pathname, search: location.search, hasMoved: true })
    const click = (event: MouseEvent) => {
      const path = innerLink(event)
      if (path === undefined) return
      event.preventDefault()
      go(path)
    }
    addEventListener('popstate', back)
    document.addEventListener('click', click)
    return () => {
      removeEventListener('popstate', back)
      document.removeEventListener('click', click)
    }
  }, [])
  return { ...place, go }
}

function leavePage(): void {
  window.scrollTo(0, 0)
  if (document.activeElement instanceof HTMLElement) document.activeElement.blur()
}

function innerLink(event: MouseEvent): string | undefined {
  if (
    event.defaultPrevented ||
    event.button !== 0 ||
    event.ctrlKey ||
    event.metaKey ||
    event.shiftKey ||
    event.altKey
  )
    return undefined
  const link = event.target instanceof Element ? event.target.closest('a') : null
  if (link === null || link.target !== '' || link.origin !== location.origin) return undefined
  if (link.getAttribute('href')?.startsWith('#') || placeOf(link.pathname) === undefined) return undefined
  return link.pathname + link.search
}

type Asked = { readonly question: Question; answer(answer: Answer | undefined): void }

function useQuestion(): [Asked | undefined, App['confirm']] {
  const [asked, setAsked] = useState<Asked>()
  const ask = useCallback(
    (question: Question) =>
      new Promise<Answer | undefined>((resolve) => {
        const answer = (given: Answer | undefined) => {
          setAsked(undefined)
          resolve(given)
        }
        setAsked({ question, answer })
      }),
    []
  )
  return [asked, ask]
}

const toastMs = 6_000

function useToast(): [{ text: string; tone: string } | undefined, App['tell']] {
  const [toast, setToast] = useState<{ text: string; tone: string }>()
  useEffect(() => {
    if (toast === undefined) return
    const timer = setTimeout(() => setToast(undefined), toast.tone === 'bad' ? 3 * toastMs : toastMs)
    return () => clearTimeout(timer)
  }, [toast])
  const tell = useCallback((text: string, tone: 'ok' | 'bad' = 'ok') => setToast({ text, tone }), [])
  return [toast, tell]
}

function turnTheme(): void {
  const { dataset } = document.documentElement
  const isDark =
    dataset.theme === undefined
      ? matchMedia('(prefers-color-scheme: dark)').matches
      : dataset.theme === 'dark'
  dataset.theme = isDark ? 'light' : 'dark'
  localStorage.setItem('theme', dataset.theme)
}

const root = document.getElementById('app')
if (root !== null) render(html`<${Root} />`, root)
