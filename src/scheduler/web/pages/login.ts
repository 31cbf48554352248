// Signing in: the key goes to the scheduler once, which answers with a cookie that no script sees. Nothing of it is kept here.

import { html } from 'htm/preact'
import { useEffect, useState } from 'preact/hooks'
import { type Api, ApiFailure, messageOf } from '../api.ts'

export function LoginPage({
  api,
  reason,
  onDone
}: {
  api: Api
  reason: string
  onDone: () => Promise<void>
}) {
  const [fault, setFault] = useState(reason)
  const [isBusy, setBusy] = useState(false)
  const [needsCode, setNeedsCode] = useState(false)
  useEffect(() => {
    document.title = 'Sign in · hostlet'
  }, [])
  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    const fields = new FormData(event.target as HTMLFormElement)
    const code = String(fields.get('code') ?? '').trim()
    const body = {
      key: String(fields.get('key')).trim(),
      ...(code !== '' && { code }),
      ...(fields.has('remember') && { remember: true })
    }
    setBusy(true)
    try {
      await api.ask('POST', '/v1/session', { body })
      await onDone()
    } catch (error) {
      setNeedsCode(needsCode || needsMore(error))
      setFault(explained(error))
    }
    setBusy(false)
  }
  return html`<main class="login">
    <form onSubmit=${submit} aria-labelledby="login-title">
      <h1 id="login-title"><span class="mark" aria-hidden="true"></span>hostlet</h1>
      <p class="faint">Sign in with your API key. It begins with <code>hlk_</code>.</p>
      <input type="text" name="username" value="hostlet" autocomplete="username" hidden />
      <label class="field">
        <span>API key</span>
        <input name="key" type="password" required autofocus autocomplete="current-password" spellcheck="false" aria-describedby="login-fault" />
      </label>
      ${
        needsCode &&
        html`<label class="field">
          <span>Code of the second factor</span>
          <input name="code" required inputmode="numeric" autocomplete="one-time-code" spellcheck="false"
            ref=${(field: HTMLInputElement | null) => field?.focus()} />
          <small>Six digits of your authenticator, or a recovery code.</small>
        </label>`
      }
      <label class="choice"><input name="remember" type="checkbox" /><span>Stay signed in<small>For some days, on a machine of your own.</small></span></label>
      <p id="login-fault" class=${`fault ${fault === '' ? '' : 'there'}`} role="alert">${fault}</p>
      <button class="primary" type="submit" disabled=${isBusy}>${isBusy ? 'Signing in…' : 'Sign in'}</button>
      <p class="faint small">No key yet? <code>hostlet key create --tier read</code> makes one.</p>
    </form>
  </main>`
}

function needsMore(error: unknown): boolean {
  return (
    error instanceof ApiFailure && ['code-needed', 'wrong-code', 'used-code'].includes(error.reason ?? '')
  )
}

function explained(error: unknown): string {
  if (!(error instanceof ApiFailure)) return messageOf(error)
  if (error.status === 429) return `Too many failed attempts. Try again in ${error.retryAfter ?? 60} seconds.`
  if (error.code === 'E_BAD_REQUEST') return 'This is no API key: it begins with hlk_ and has 47 characters.'
  return error.message
}
