// A terminal in the page: what a guest sends, keys and pastes to it, the size of its window, and the way out by keyboard.

import type { ITheme, Terminal } from '@xterm/xterm'
import { defineStyleElement } from './style-element.ts'

/** More than so many characters of a paste are refused: a serial line is slow, and loses what a guest does not read. */
export const pasteCharsMax = 32_768
/** A paste of more characters than this, or of more than one line, is asked about. */
const pasteAskChars = 1_000
const scrollbackLines = 5_000

export interface TerminalHandlers {
  typed(data: Uint8Array): void
  /** Whether it is to be pasted. */
  askPaste(text: string): Promise<boolean>
  /** The key that leaves the terminal was pressed. */
  left(): void
  resized(rows: number, columns: number): void
}

/** Loads the library when it is first called, and puts a terminal into the element. `signal` takes it away. */
export async function openTerminal(
  frame: HTMLElement,
  handlers: TerminalHandlers,
  signal: AbortSignal
): Promise<Terminal | undefined> {
  defineStyleElement()
  const [{ Terminal }, { FitAddon }] = await Promise.all([
    import('@xterm/xterm'),
    import('@xterm/addon-fit'),
    styleSheet('vendor/xterm.css')
  ])
  if (signal.aborted) return undefined
  const terminal = new Terminal({
    scrollback: scrollbackLines,
    fontSize: 14,
    fontFamily: 'ui-monospace, "Cascadia Mono", "Liberation Mono", Menlo, monospace',
    // Guests choose colours for a theme that they do not know.
    minimumContrastRatio: 4.5,
    theme: themeOf(frame),
    // Guests write links too: none of them leads anywhere.
    linkHandler: { activate: () => undefined }
  })
  const fit = new FitAddon()
  terminal.loadAddon(fit)
  terminal.open(frame)
  terminal.onData((text) => handlers.typed(new TextEncoder().encode(text)))
  // Reports of the mouse are bytes, one a character.
  terminal.onBinary((text) => handlers.typed(Uint8Array.from(text, (char) => char.charCodeAt(0))))
  terminal.onResize(({ rows, cols }) => handlers.resized(rows, cols))
  terminal.attachCustomKeyEventHandler((event) => passes(event, terminal, handlers))
  listenForPastes(frame, terminal, handlers, signal)
  followTheme(frame, terminal, signal)
  const sizes = new ResizeObserver(() => fit.fit())
  sizes.observe(frame)
  signal.addEventListener('abort', () => {
    sizes.disconnect()
    terminal.dispose()
  })
  fit.fit()
  handlers.resized(terminal.rows, terminal.cols)
  return terminal
}

/** False for keys that are not the guest's. */
function passes(event: KeyboardEvent, terminal: Terminal, handlers: TerminalHandlers): boolean {
  // Who cannot type goes on as on any page.
  if (event.key === 'Tab' && terminal.options.disableStdin) return false
  if (!event.ctrlKey || !event.shiftKey) return true
  const key = event.key.toLowerCase()
  if (key === 'e') {
    event.preventDefault()
    if (event.type === 'keydown') handlers.left()
    return false
  }
  if (key === 'c' && terminal.hasSelection()) {
    event.preventDefault()
    if (event.type === 'keydown') void navigator.clipboard.writeText(terminal.getSelection())
    return false
  }
  // The browser pastes.
  return key !== 'v'
}

function listenForPastes(
  frame: HTMLElement,
  terminal: Terminal,
  handlers: TerminalHandlers,
  signal: AbortSignal
): void {
  const paste = async (event: ClipboardEvent) => {
    event.preventDefault()
    event.stopPropagation()
    if (terminal.options.disableStdin) return
    const text = event.clipboardData?.getData('text/plain') ?? ''
    const asks = text.length > pasteAskChars || /[\r\n]/.test(text)
    if (asks && !(await handlers.askPaste(text))) return
    if (!signal.aborted) terminal.paste(text)
  }
  frame.addEventListener('paste', (event) => void paste(event), { capture: true, signal })
}

function followTheme(frame: HTMLElement, terminal: Terminal, signal: AbortSignal): void {
  const turn = () => {
    terminal.options.theme = themeOf(frame)
  }
  const turned = new MutationObserver(turn)
  turned.observe(document.documentElement, { attributeFilter: ['data-theme'] })
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', turn, { signal })
  signal.addEventListener('abort', () => turned.disconnect())
}

function themeOf(frame: HTMLElement): ITheme {
  const { backgroundColor: background, color: foreground } = getComputedStyle(frame)
  const selectionBackground = 'rgba(128, 128, 128, 0.4)'
  return { background, foreground, cursor: foreground, cursorAccent: background, selectionBackground }
}

/** Resolves once it counts; it stays in the page. */
function styleSheet(name: string): Promise<void> {
  const href = import.meta.resolve(`../${name}`)
  if (document.querySelector(`link[href="${href}"]`) !== null) return Promise.resolve()
  return new Promise((resolve, reject) => {
    const link = document.createElement('link')
    link.rel = 'stylesheet'
    link.href = href
    link.addEventListener('load', () => resolve())
    link.addEventListener('error', () => reject(new Error('The styles of the terminal could not be loaded.')))
    document.head.append(link)
  })
}
