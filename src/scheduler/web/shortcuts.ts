// Keys of the whole application; off in fields, in dialogs, and for whoever has turned them off.

import { useEffect, useState } from 'preact/hooks'
import { searchFieldId } from './parts/search.ts'
import { type Page, pathTo } from './routes.ts'

const jumps: Readonly<Record<string, Page>> = {
  o: 'overview',
  h: 'hosts',
  v: 'vms',
  p: 'operations',
  b: 'backups',
  c: 'conditions',
  a: 'audit'
}
const jumpMs = 1_500
const settingName = 'keys'

export interface Shortcuts {
  go(path: string): void
  help(): void
  turnTheme(): void
}

/** Whether single keys do something, and how to change that. */
export function useShortcuts({ go, help, turnTheme }: Shortcuts): [boolean, () => void] {
  const [isOn, setOn] = useState(localStorage.getItem(settingName) !== 'off')
  useEffect(() => {
    if (!isOn) return
    let jumpUntil = 0
    const actions: Readonly<Record<string, () => void>> = {
      '/': () => document.getElementById(searchFieldId)?.focus(),
      '?': help,
      t: turnTheme,
      j: () => moveRow(1),
      k: () => moveRow(-1),
      g: () => {
        jumpUntil = Date.now() + jumpMs
      }
    }
    const press = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return
      const page = Date.now() < jumpUntil ? jumps[event.key] : undefined
      jumpUntil = 0
      const action = page === undefined ? actions[event.key] : () => go(pathTo(page))
      if (action === undefined) return
      event.preventDefault()
      action()
    }
    document.addEventListener('keydown', press)
    return () => document.removeEventListener('keydown', press)
  }, [isOn])
  const toggle = () => {
    localStorage.setItem(settingName, isOn ? 'off' : 'on')
    setOn(!isOn)
  }
  return [isOn, toggle]
}

function isTyping(target: EventTarget | null): boolean {
  if (document.querySelector('dialog[open]') !== null) return true
  return target instanceof HTMLElement && target.closest('input, textarea, select') !== null
}

function moveRow(by: number): void {
  const rows = [...document.querySelectorAll<HTMLElement>('[data-row]')]
  const index = rows.indexOf(document.activeElement as HTMLElement)
  const next = index === -1 ? (by > 0 ? 0 : rows.length - 1) : index + by
  rows[next]?.focus()
}
