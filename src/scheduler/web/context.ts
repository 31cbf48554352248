// What every page may use: the API, who is signed in, and the ways to tell and to ask something.

import { createContext } from 'preact'
import { useContext } from 'preact/hooks'
import type { ApiTier, SessionView } from '../../protocol/api.ts'
import type { Api } from './api.ts'

export type Session = SessionView

/** What is asked before something is done. */
export interface Question {
  readonly title: string
  readonly text: string
  /** What the button says that does it. */
  readonly action: string
  readonly isDangerous?: boolean
  /** A choice that changes what is done. */
  readonly check?: { readonly label: string; readonly hint: string }
  /** A word that is needed. */
  readonly field?: {
    readonly label: string
    readonly hint: string
    readonly value: string
    readonly options: readonly string[]
  }
}

export interface Answer {
  readonly checked: boolean
  readonly text: string
}

export interface App {
  readonly api: Api
  readonly session: Session
  /** The query of the page. */
  readonly query: URLSearchParams
  /** Another page of the application was shown before this one. */
  readonly hasMoved: boolean
  go(path: string, options?: { readonly replace?: boolean }): void
  tell(text: string, tone?: 'ok' | 'bad'): void
  /** Undefined when it was called off. */
  confirm(question: Question): Promise<Answer | undefined>
}

export const AppContext = createContext<App | undefined>(undefined)

export function useApp(): App {
  const app = useContext(AppContext)
  if (app === undefined) throw new Error('used outside of the application')
  return app
}

/** Consoles have a tier of their own, which the scheduler's configuration says. */
export function mayConsole(session: Session): boolean {
  return mayDo(session, session.consoleTier ?? 'admin')
}

const tiers: readonly ApiTier[] = ['read', 'manage', 'admin']

/** From `refusedFrom` on a second factor is wanted, which this session has not shown. */
export function mayDo({ tier, refusedFrom }: Session, wanted: ApiTier): boolean {
  const rank = tiers.indexOf(wanted)
  return tiers.indexOf(tier) >= rank && (refusedFrom === undefined || tiers.indexOf(refusedFrom) > rank)
}
