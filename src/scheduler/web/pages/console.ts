// The serial console of a VM: opened when somebody says so, for writing or watching, and ended with the page.

import { html } from 'htm/preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import type { VmReply } from '../../../protocol/api.ts'
import type { ConsoleAttached, ConsoleEnd, ConsoleMode } from '../../../protocol/console.ts'
import { messageOf } from '../api.ts'
import type { ConsoleLink } from '../console-link.ts'
import { ConsoleTaken, endText, visitConsole } from '../console-visit.ts'
import { type App, mayConsole, useApp } from '../context.ts'
import { duration, moment } from '../format.ts'
import { VmBadge } from '../parts/badge.ts'
import { Foreign, Heading, Standing } from '../parts/small.ts'
import { openTerminal, pasteCharsMax } from '../parts/terminal.ts'
import { listMs, usePoll } from '../poll.ts'
import { pathTo } from '../routes.ts'

export function ConsolePage({ name }: { name: string }) {
  const { session } = useApp()
  const polled = usePoll<VmReply>(`/v1/vms/${encodeURIComponent(name)}`, listMs)
  const vm = polled.data?.vm
  const back = html`<a class="button" href=${pathTo('vm', name)}>Back to the VM</a>`
  return html`
    <${Heading} title=${`Console of ${name}`} aside=${back}>${vm && html`<${VmBadge} vm=${vm} />`}<//>
    <${Standing} of=${polled} />
    ${
      mayConsole(session)
        ? vm && html`<${Console} vm=${name} isOn=${vm.state !== 'stopped' && vm.state !== 'crashed'} />`
        : html`<p class="note">Consoles are for keys of tier ${session.consoleTier ?? 'admin'}. Yours is of tier ${session.tier}${session.refusedFrom && ', and a second factor is missing'}.</p>`
    }`
}

type State =
  | { readonly step: 'closed'; readonly note?: string; readonly isFault?: boolean }
  | { readonly step: 'opening'; readonly note?: string }
  | { readonly step: 'open'; readonly console: ConsoleAttached }

function Console({ vm, isOn }: { vm: string; isOn: boolean }) {
  const { state, size, frame, buttons, open, leave } = useConsole(vm)
  const { step } = state
  return html`<section class="panel console" aria-label="Serial console">
    <header>
      <p class="console-state" role="status"><${StateText} state=${state} isOn=${isOn} /></p>
      <div class="buttons" ref=${buttons}>
        ${
          step === 'closed'
            ? html`<button class="primary" disabled=${!isOn} onClick=${() => open('write')}>${state.note === undefined ? 'Open' : 'Open again'}</button>
              <button disabled=${!isOn} onClick=${() => open('read')}>Watch only</button>`
            : html`<button onClick=${leave}>${step === 'open' ? 'Leave' : 'Cancel'}</button>`
        }
      </div>
    </header>
    <div class="console-screen" ref=${frame}></div>
    <footer class="faint small">
      <span><kbd>Ctrl</kbd> <kbd>Shift</kbd> <kbd>E</kbd> moves to the button above, with <kbd>C</kbd> copies, with <kbd>V</kbd> pastes; other keys are the guest’s.</span>
      ${size && html`<span>A serial line tells no guest its size: <code>stty rows ${size.rows} cols ${size.columns}</code></span>`}
    </footer>
  </section>`
}

function StateText({ state, isOn }: { state: State; isOn: boolean }) {
  if (state.step === 'opening') return state.note ?? 'Asking the host…'
  if (state.step === 'open') {
    const { mode, host, idleMs } = state.console
    const doing = mode === 'read' ? 'Watching' : 'Writing'
    return html`<b>${doing}</b>, on host <${Foreign} text=${host} />. It ends when nothing is ${mode === 'read' ? 'shown' : 'typed'} for ${duration(idleMs)}.${mode === 'write' && ' Press Enter where nothing shows.'}`
  }
  if (state.note !== undefined)
    return html`<span class=${state.isFault ? 'fault' : ''}><${Foreign} text=${state.note} /></span>`
  return isOn
    ? 'Not open. One person writes at a time, others may watch; who and when is in the audit, what is typed and shown is not.'
    : 'The VM is off: there is nothing to see on its console.'
}

function useConsole(vm: string) {
  const app = useApp()
  const [state, setState] = useState<State>({ step: 'closed' })
  const [size, setSize] = useState<{ rows: number; columns: number }>()
  const frame = useRef<HTMLDivElement>(null)
  const buttons = useRef<HTMLDivElement>(null)
  const visit = useRef<Visit | null>(null)
  useEffect(() => () => visit.current?.close(), [])
  const toButton = () => buttons.current?.querySelector<HTMLElement>('button:enabled')?.focus()
  const { step } = state
  useEffect(() => {
    // What had the focus takes nothing any more, or is gone.
    const { activeElement } = document
    const isNowhere = activeElement === document.body || frame.current?.contains(activeElement) === true
    if (step === 'closed' && visit.current !== null && isNowhere) toButton()
  }, [step])
  const open = async (mode: ConsoleMode, takeOver = false): Promise<void> => {
    visit.current?.close()
    if (frame.current === null) return
    const mine = new Visit(app, frame.current, {
      toButton,
      resized: (rows, columns) => setSize({ rows, columns }),
      changed: setState
    })
    visit.current = mine
    const taken = await mine.begin({ vm, mode, takeOver })
    if (taken === undefined || visit.current !== mine) return
    if ((await app.confirm(questionOf(taken))) !== undefined) return open(mode, true)
    setState({ step: 'closed', note: 'It stays with whoever writes. You may watch.' })
  }
  return { state, size, frame, buttons, open, leave: () => visit.current?.leave() }
}

function questionOf({ by, since, message }: ConsoleTaken) {
  const who =
    by === undefined ? message : `${by} writes${since === undefined ? '' : ` since ${moment(since)}`}.`
  return {
    title: 'Take the console over?',
    text: `${who} That session ends, and is told that it was you.`,
    action: 'Take over',
    isDangerous: true
  }
}

interface VisitHandlers {
  toButton(): void
  resized(rows: number, columns: number): void
  changed(state: State): void
}

/** A terminal and its link. What was shown stays until the next visit, or the page, begins. */
class Visit {
  readonly #app: App
  readonly #frame: HTMLElement
  readonly #handlers: VisitHandlers
  readonly #closed = new AbortController()
  readonly #left = new AbortController()
  #link: ConsoleLink | undefined
  #hasToldFull = false

  constructor(app: App, frame: HTMLElement, handlers: VisitHandlers) {
    this.#app = app
    this.#frame = frame
    this.#handlers = handlers
  }

  /** Resolves once it is open, or is not to be; with who has it, where somebody does. */
  async begin(wish: Parameters<typeof visitConsole>[1]): Promise<ConsoleTaken | undefined> {
    this.#change({ step: 'opening' })
    try {
      const terminal = await this.#terminal()
      if (terminal === undefined) return undefined
      this.#link = await visitConsole(this.#app.api, wish, {
        signal: this.#left.signal,
        waits: (id) =>
          this.#change({ step: 'opening', note: `It waits for a second signature: hostlet approve ${id}` }),
        handlers: {
          attached: (console) => {
            terminal.options.disableStdin = console.mode === 'read'
            this.#change({ step: 'open', console })
            terminal.focus()
          },
          show: (data, taken) => terminal.write(data, taken),
          ended: (end) => this.#ended(end, terminal)
        }
      })
      return undefined
    } catch (error) {
      if (error instanceof ConsoleTaken) return error
      if (this.#left.signal.aborted) this.#change({ step: 'closed' })
      else this.#change({ step: 'closed', note: messageOf(error), isFault: true })
      return undefined
    }
  }

  leave(): void {
    this.#left.abort()
    this.#link?.leave()
  }

  /** Takes the terminal away, too. */
  close(): void {
    this.#closed.abort()
    this.leave()
  }

  #change(state: State): void {
    if (!this.#closed.signal.aborted) this.#handlers.changed(state)
  }

  #terminal() {
    const { toButton: left, resized } = this.#handlers
    const typed = (data: Uint8Array) => this.#type(data)
    const askPaste = (text: string) => this.#askPaste(text)
    return openTerminal(this.#frame, { typed, askPaste, left, resized }, this.#closed.signal)
  }

  #type(data: Uint8Array): void {
    const isTaken = this.#link?.type(data) ?? false
    if (this.#link?.isAttached && !isTaken && !this.#hasToldFull)
      this.#app.tell('The guest takes nothing of what is typed: the rest was dropped.', 'bad')
    this.#hasToldFull = !isTaken
  }

  async #askPaste(text: string): Promise<boolean> {
    const { length } = text
    if (length > pasteCharsMax) {
      this.#app.tell(
        `${length} characters are too many to paste: ${pasteCharsMax} at most. Copy a file instead.`,
        'bad'
      )
      return false
    }
    const lines = text.split(/\r\n|\r|\n/).length
    const answer = await this.#app.confirm({
      title: `Paste ${lines === 1 ? `${length} characters` : `${lines} lines`}?`,
      text: 'A shell carries out each line as it comes. A guest that reads slowly may lose some of it.',
      action: 'Paste'
    })
    return answer !== undefined
  }

  #ended(end: ConsoleEnd, terminal: { options: { disableStdin?: boolean; cursorBlink?: boolean } }): void {
    terminal.options.disableStdin = true
    const isFault = end.why !== 'left' && end.why !== 'off'
    this.#change({ step: 'closed', note: endText(end), isFault })
  }
}
