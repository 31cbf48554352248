// What is asked before something is done, and the list of keys: both as dialogs of the browser, which keep the focus inside.

import { html } from 'htm/preact'
import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import type { Answer, Question } from '../context.ts'

export function ConfirmDialog({
  question,
  onAnswer
}: {
  question: Question
  onAnswer: (answer: Answer | undefined) => void
}) {
  const { title, text, action, isDangerous = false, check, field } = question
  const [checked, setChecked] = useState(false)
  const [word, setWord] = useState(field?.value ?? '')
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    onAnswer({ checked, text: word.trim() })
  }
  return html`<${Modal} label=${title} onClose=${() => onAnswer(undefined)}>
    <form onSubmit=${submit}>
      <h2>${title}</h2>
      <p>${text}</p>
      ${
        field &&
        html`<label class="field">
          <span>${field.label}</span>
          <input type="text" list="choices" required value=${word} autocomplete="off" spellcheck="false"
            onInput=${(event: InputEvent) => setWord((event.target as HTMLInputElement).value)} />
          <datalist id="choices">${field.options.map((option) => html`<option key=${option} value=${option}></option>`)}</datalist>
          <small>${field.hint}</small>
        </label>`
      }
      ${
        check &&
        html`<label class="choice">
          <input type="checkbox" checked=${checked} onChange=${() => setChecked(!checked)} />
          <span>${check.label}<small>${check.hint}</small></span>
        </label>`
      }
      <div class="buttons">
        <button type="button" onClick=${() => onAnswer(undefined)}>Cancel</button>
        <button type="submit" class=${isDangerous || checked ? 'danger' : 'primary'} autofocus=${field === undefined}>${action}</button>
      </div>
    </form>
  <//>`
}

export const keys: readonly (readonly [string, string])[] = [
  ['/', 'Search hosts, VMs and operations'],
  ['g o', 'Overview'],
  ['g h', 'Hosts'],
  ['g v', 'VMs'],
  ['g p', 'Operations'],
  ['g b', 'Backups'],
  ['g c', 'Conditions'],
  ['g a', 'Audit'],
  ['j k', 'Next and previous row'],
  ['Enter', 'Open the row'],
  ['t', 'Light or dark'],
  ['?', 'This list'],
  ['Esc', 'Close']
]

export function HelpDialog({
  isOn,
  onToggle,
  onClose
}: {
  isOn: boolean
  onToggle: () => void
  onClose: () => void
}) {
  return html`<${Modal} label="Keys" onClose=${onClose}>
    <h2>Keys</h2>
    <dl class="keys">
      ${keys.map(
        ([key, what]) =>
          html`<div key=${key}><dt>${key.split(' ').map((part) => html`<kbd key=${part}>${part}</kbd> `)}</dt><dd>${what}</dd></div>`
      )}
    </dl>
    <label class="choice">
      <input type="checkbox" checked=${isOn} onChange=${onToggle} />
      <span>Single keys are on<small>Turn them off where they get in the way of other software.</small></span>
    </label>
    <div class="buttons"><button class="primary" autofocus onClick=${onClose}>Close</button></div>
  <//>`
}

function Modal({
  label,
  onClose,
  children
}: {
  label: string
  onClose: () => void
  children: ComponentChildren
}) {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    const before = document.activeElement
    dialog.current?.showModal()
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus()
    }
  }, [])
  const cancel = (event: Event) => {
    event.preventDefault()
    onClose()
  }
  return html`<dialog ref=${dialog} aria-label=${label} onCancel=${cancel}>${children}</dialog>`
}
