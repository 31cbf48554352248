// Small things that pages are made of: times, meters, headings, notes about data that are missing or old.

import { html } from 'htm/preact'
import type { ComponentChildren } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { messageOf } from '../api.ts'
import { useApp } from '../context.ts'
import { ago, moment, percent } from '../format.ts'
import type { Polled } from '../poll.ts'

/** How long ago; the moment itself on hover. */
export function Ago({ at }: { at: number | undefined }) {
  if (at === undefined) return html`<span class="faint">never</span>`
  return html`<time datetime=${new Date(at).toISOString()} title=${moment(at)}>${ago(at, Date.now())}</time>`
}

const warnAbove = 0.8
const badAbove = 0.92

/** A share of a whole, 0 to 1. */
export function Meter({ ratio, label, text }: { ratio: number | undefined; label: string; text?: string }) {
  if (ratio === undefined || !Number.isFinite(ratio)) return html`<span class="faint">–</span>`
  const tone = ratio > badAbove ? 'bad' : ratio > warnAbove ? 'warning' : 'ok'
  const shown = Math.min(1, Math.max(0, ratio))
  return html`<span class="meter">
    <span
      class=${`meter-bar ${tone}`}
      role="meter"
      aria-label=${label}
      aria-valuemin="0"
      aria-valuemax="100"
      aria-valuenow=${Math.round(shown * 100)}
      aria-valuetext=${text ?? percent(ratio)}
    ><span style=${{ width: `${shown * 100}%` }}></span></span>
    <span class="meter-text">${text ?? percent(ratio)}</span>
  </span>`
}

/** The heading of a page: it is the title of the tab, and has the focus when one comes to the page. */
export function Heading({
  title,
  children,
  aside
}: {
  title: string
  children?: ComponentChildren
  aside?: ComponentChildren
}) {
  const { hasMoved } = useApp()
  const heading = useRef<HTMLHeadingElement>(null)
  useEffect(() => {
    document.title = `${title} · hostlet`
    const { activeElement } = document
    // Who came by a link of a page that is gone has the focus nowhere; whoever has just come begins at the top.
    if (hasMoved && (activeElement === null || activeElement === document.body))
      heading.current?.focus({ preventScroll: true })
  }, [title])
  return html`<header class="heading">
    <div class="heading-title"><h1 ref=${heading} tabindex="-1">${title}</h1>${children}</div>
    ${aside && html`<div class="heading-aside">${aside}</div>`}
  </header>`
}

export function Panel({
  title,
  aside,
  children
}: {
  title: string
  aside?: ComponentChildren
  children: ComponentChildren
}) {
  const id = `panel-${title.toLowerCase().replaceAll(/[^a-z]+/g, '-')}`
  return html`<section class="panel" aria-labelledby=${id}>
    <header><h2 id=${id}>${title}</h2>${aside}</header>
    ${children}
  </section>`
}

/** What is said while there are no data yet, and when the last look at them failed. */
export function Standing({ of: polled }: { of: Polled<unknown> }) {
  const { data, error, at } = polled
  if (error !== undefined && data === undefined)
    return html`<p class="note bad" role="alert">${messageOf(error)} <button class="plain" onClick=${polled.refresh}>Try again</button></p>`
  if (error !== undefined)
    return html`<p class="note warning" role="status">${messageOf(error)} This is from <${Ago} at=${at} />.</p>`
  if (data === undefined) return html`<p class="note faint" role="status">Loading…</p>`
  return null
}

/** Pairs of a name and what there is to say; those with nothing are left out. */
export function Facts({ of }: { of: readonly (readonly [string, ComponentChildren])[] }) {
  const there = of.filter(
    ([, value]) => value !== undefined && value !== null && value !== '' && value !== false
  )
  return html`<dl class="facts">
    ${there.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`
}

/** Text that others chose: it cannot turn around the direction of what stands beside it. */
export function Foreign({ text }: { text: string }) {
  return html`<bdi>${text}</bdi>`
}
