// What can be done to a VM, a host or an operation: asked first, sent once, and told.

import { html } from 'htm/preact'
import { useState } from 'preact/hooks'
import type { BackupList, HostView, OperationReply, OperationView, VmView } from '../../../protocol/api.ts'
import { messageOf } from '../api.ts'
import { type Answer, type App, mayConsole, mayDo, type Question, useApp } from '../context.ts'
import { pathTo } from '../routes.ts'

interface Deed {
  readonly label: string
  readonly path: string
  readonly question: Question
  body?(answer: Answer): unknown
}

/** Buttons that ask, do, and say what came of it. `onDone`: look again. */
export function Deeds({ deeds, onDone }: { deeds: readonly Deed[]; onDone: () => void }) {
  const app = useApp()
  const [busy, setBusy] = useState<string>()
  const run = async (deed: Deed) => {
    const answer = await app.confirm(deed.question)
    if (answer === undefined) return
    setBusy(deed.label)
    await carryOut(app, deed, answer)
    setBusy(undefined)
    onDone()
  }
  return deeds.map(
    (deed) =>
      html`<button key=${deed.label} disabled=${busy !== undefined} onClick=${() => run(deed)}>${deed.label}</button>`
  )
}

async function carryOut(app: App, { label, path, body }: Deed, answer: Answer): Promise<void> {
  try {
    const key = crypto.randomUUID()
    const { operation } = await app.api.ask<OperationReply>('POST', path, { body: body?.(answer) ?? {}, key })
    const { verb, vm, host, state } = operation
    app.tell(
      state === 'failed'
        ? `${label}: it was called off before its host had it`
        : `Asked for ${verb} of ${vm ?? host}`
    )
  } catch (error) {
    app.tell(`${label}: ${messageOf(error)}`, 'bad')
  }
}

export function VmDeeds({ vm, onDone }: { vm: VmView; onDone: () => void }) {
  const app = useApp()
  if (!mayDo(app.session, 'manage') || vm.state === 'retained') return null
  const isOn = vm.state !== 'stopped' && vm.state !== 'crashed'
  const deeds = isOn ? [stop(vm), reboot(vm)] : [start(vm)]
  const hasConsole = isOn && mayConsole(app.session)
  return html`<div class="buttons"><${Deeds} deeds=${deeds} onDone=${onDone} /><${BackupDeed} vm=${vm} onDone=${onDone} />${hasConsole && html`<a class="button" href=${pathTo('console', vm.name)}>Console</a>`}</div>`
}

function start({ name, host }: VmView): Deed {
  return {
    label: 'Start',
    path: `/v1/vms/${encodeURIComponent(name)}/start`,
    question: {
      title: `Start ${name}?`,
      text: `It is started on host ${host}, and again after each boot of the host.`,
      action: 'Start'
    }
  }
}

function stop({ name }: VmView): Deed {
  return {
    label: 'Stop',
    path: `/v1/vms/${encodeURIComponent(name)}/stop`,
    question: {
      title: `Stop ${name}?`,
      text: 'Its guest is asked to shut down. When that takes too long, its power is cut.',
      action: 'Stop',
      isDangerous: true,
      check: { label: 'Cut the power at once', hint: 'What the guest has not written to its disks is lost.' }
    },
    body: ({ checked }) => (checked ? { force: true } : {})
  }
}

function reboot({ name }: VmView): Deed {
  return {
    label: 'Reboot',
    path: `/v1/vms/${encodeURIComponent(name)}/reboot`,
    question: {
      title: `Reboot ${name}?`,
      text: 'Its guest is asked to restart. What it serves is away meanwhile.',
      action: 'Reboot',
      isDangerous: true,
      check: {
        label: 'Reset it at once',
        hint: 'As its reset button would: what is not on its disks is lost.'
      }
    },
    body: ({ checked }) => (checked ? { force: true } : {})
  }
}

/** Repositories have names in each host's policy; those of earlier backups are offered. */
function BackupDeed({ vm, onDone }: { vm: VmView; onDone: () => void }) {
  const app = useApp()
  const [isBusy, setBusy] = useState(false)
  const run = async () => {
    setBusy(true)
    const options = await knownTargets(app)
    const deed = backup(vm, options)
    const answer = await app.confirm(deed.question)
    if (answer !== undefined) await carryOut(app, deed, answer)
    setBusy(false)
    onDone()
  }
  return html`<button disabled=${isBusy} onClick=${run}>Back up</button>`
}

async function knownTargets({ api }: App): Promise<readonly string[]> {
  try {
    const { backups } = await api.get<BackupList>('/v1/backups?limit=100')
    return [...new Set(backups.map(({ target }) => target))]
  } catch {
    return []
  }
}

function backup({ name, host }: VmView, options: readonly string[]): Deed {
  return {
    label: 'Back up',
    path: `/v1/vms/${encodeURIComponent(name)}/backup`,
    question: {
      title: `Back up ${name}?`,
      text: 'It runs on meanwhile. What changed since its last backup there is copied, encrypted.',
      action: 'Back up',
      field: {
        label: 'Repository',
        hint: `A name from the policy of host ${host}.`,
        value: options[0] ?? '',
        options
      }
    },
    body: ({ text }) => ({ target: text })
  }
}

export function HostDeeds({ host, onDone }: { host: HostView; onDone: () => void }) {
  const app = useApp()
  if (!mayDo(app.session, 'manage') || host.state === 'revoked') return null
  const path = (action: string) => `/v1/hosts/${encodeURIComponent(host.id)}/${action}`
  const drain: Deed = {
    label: 'Drain',
    path: path('drain'),
    question: {
      title: `Drain ${host.hostname}?`,
      text: 'It takes no new work until it is resumed. Its VMs run on.',
      action: 'Drain'
    }
  }
  const resume: Deed = {
    label: 'Resume',
    path: path('resume'),
    question: { title: `Resume ${host.hostname}?`, text: 'It takes work again.', action: 'Resume' }
  }
  return html`<div class="buttons"><${Deeds} deeds=${[host.drainingSince === undefined ? drain : resume]} onDone=${onDone} /></div>`
}

export function CancelDeed({ operation, onDone }: { operation: OperationView; onDone: () => void }) {
  const app = useApp()
  const { id, verb, vm, host, state } = operation
  if (!mayDo(app.session, 'manage') || !isOpen(operation) || verb === 'operation.cancel') return null
  const deed: Deed = {
    label: 'Cancel',
    path: `/v1/operations/${encodeURIComponent(id)}/cancel`,
    question: {
      title: `Cancel ${verb} of ${vm ?? host}?`,
      text:
        state === 'waiting'
          ? 'Its host has not got it yet: nothing will have happened.'
          : 'Its host undoes what it has begun, where that is possible. Look at the VM afterwards.',
      action: 'Cancel the operation',
      isDangerous: true
    }
  }
  return html`<${Deeds} deeds=${[deed]} onDone=${onDone} />`
}

export function isOpen({ state }: OperationView): boolean {
  return state === 'waiting' || state === 'sent' || state === 'running'
}
