// A chart of samples over time, drawn by uPlot in the colours of the theme, with its newest and highest figures in words.

import { html } from 'htm/preact'
import { useEffect, useMemo, useRef } from 'preact/hooks'
import uPlot from 'uplot'
import { columns, type Point } from '../series.ts'

export interface Line<Sample> {
  readonly label: string
  readonly pick: (sample: Sample) => number | undefined
}

export interface ChartProps<Sample> {
  readonly title: string
  readonly points: readonly Point<Sample>[]
  readonly lines: readonly Line<Sample>[]
  readonly text: (value: number) => string
  readonly rangeMs: number
  /** Top of the axis where the whole is known; else as high as the figures. */
  readonly max?: number | undefined
  /** The least that the axis shows, so that noise does not look like load. */
  readonly least: number
  /** Steps of the axis are those of bytes. */
  readonly isBytes?: boolean
}

const heightPx = 150

export function Chart<Sample>(props: ChartProps<Sample>) {
  const { title, points, lines, text, rangeMs, max, least, isBytes = false } = props
  const frame = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | undefined>(undefined)
  const data = useMemo(
    () =>
      columns(
        points,
        lines.map(({ pick }) => pick)
      ) as unknown as uPlot.AlignedData,
    [points, lines]
  )
  useEffect(() => {
    const { current: element } = frame
    if (element === null) return
    const draw = () => {
      plot.current?.destroy()
      plot.current = new uPlot(optionsOf(element, { lines, text, max, least, isBytes }), data, element)
      setRange(plot.current, rangeMs)
    }
    draw()
    const stop = watch(element, plot, draw)
    return () => {
      stop()
      plot.current?.destroy()
      plot.current = undefined
    }
  }, [lines, text, max, least, isBytes])
  useEffect(() => {
    plot.current?.setData(data, false)
    if (plot.current !== undefined) setRange(plot.current, rangeMs)
  }, [data, rangeMs])
  return html`<figure class="chart">
    <figcaption>
      <span class="chart-title">${title}</span>
      ${lines.map(({ label, pick }, index) => {
        const newest = points.at(-1)
        const value = newest && pick(newest.sample)
        return html`<span key=${label} class=${`chart-now series-${index + 1}`}>${label} <b>${value === undefined ? '–' : text(value)}</b></span>`
      })}
    </figcaption>
    <div ref=${frame} role="img" aria-label=${spoken(props)}></div>
  </figure>`
}

function setRange(plot: uPlot, rangeMs: number): void {
  const now = Date.now() / 1_000
  plot.setScale('x', { min: now - rangeMs / 1_000, max: now })
}

/** Drawn anew in another width or in other colours. */
function watch(
  element: HTMLElement,
  plot: { readonly current: uPlot | undefined },
  draw: () => void
): () => void {
  const sizes = new ResizeObserver(() =>
    plot.current?.setSize({ width: element.clientWidth, height: heightPx })
  )
  sizes.observe(element)
  const themes = new MutationObserver(draw)
  themes.observe(document.documentElement, { attributeFilter: ['data-theme'] })
  const dark = matchMedia('(prefers-color-scheme: dark)')
  dark.addEventListener('change', draw)
  return () => {
    sizes.disconnect()
    themes.disconnect()
    dark.removeEventListener('change', draw)
  }
}

type Drawn<Sample> = Pick<ChartProps<Sample>, 'lines' | 'text' | 'max' | 'least'> & {
  readonly isBytes: boolean
}

function optionsOf<Sample>(
  element: HTMLElement,
  { lines, text, max, least, isBytes }: Drawn<Sample>
): uPlot.Options {
  const colour = colours(element)
  const axis = { stroke: colour('--faint'), font: '11px system-ui', ticks: { show: false } }
  const grid = { stroke: colour('--line'), width: 1 }
  return {
    width: element.clientWidth,
    height: heightPx,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: 'charts' }, points: { size: 6 }, drag: { x: false, y: false } },
    hooks: { setCursor: [(plot) => readOut(plot, { lines, text })] },
    scales: {
      x: { time: true, auto: false },
      y: { range: (_plot, _low, high) => [0, max ?? Math.max(high ?? 0, least) * 1.1] }
    },
    axes: [
      { ...axis, grid: { show: false }, values: (_plot, splits) => splits.map(clock), space: 70, size: 24 },
      {
        ...axis,
        grid,
        size: 64,
        space: 32,
        values: (_plot, splits) => splits.map((value) => text(value)),
        ...(isBytes && { incrs: byteSteps })
      }
    ],
    series: [
      {},
      ...lines.map(({ label }, index) => {
        const stroke = colour(`--series-${index + 1}`)
        return {
          label,
          stroke,
          width: 1.5,
          points: { show: false },
          ...(index === 0 && { fill: faded(stroke) })
        }
      })
    ]
  }
}

const byteSteps = Array.from({ length: 51 }, (_, power) => 2 ** power)

/** What the lines say under the pointer, in the caption. */
function readOut<Sample>(plot: uPlot, { lines, text }: Pick<ChartProps<Sample>, 'lines' | 'text'>): void {
  const { idx } = plot.cursor
  const time = idx === null || idx === undefined ? undefined : plot.data[0][idx]
  const words =
    time === undefined
      ? ''
      : [
          clock(time),
          ...lines.map(({ label }, line) => {
            const value = plot.data[line + 1]?.[idx ?? 0]
            return `${label} ${typeof value === 'number' ? text(value) : '–'}`
          })
        ].join(' · ')
  plot.root.parentElement?.setAttribute('data-cursor', words)
}

function clock(seconds: number): string {
  return new Date(seconds * 1_000).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })
}

/** The canvas knows no custom properties: what a colour of the theme is at this place. */
function colours(element: HTMLElement): (name: string) => string {
  return (name) => {
    const probe = document.createElement('span')
    probe.style.color = `var(${name})`
    element.append(probe)
    const { color } = getComputedStyle(probe)
    probe.remove()
    return color
  }
}

function faded(colour: string): string {
  return colour.replace(/^rgb\(([^)]*)\)$/, 'rgba($1, 0.12)')
}

function spoken<Sample>({ title, points, lines, text }: ChartProps<Sample>): string {
  const newest = points.at(-1)
  if (newest === undefined) return `${title}: no samples`
  const said = lines.map(({ label, pick }) => {
    const values = points.map(({ sample }) => pick(sample)).filter((value) => value !== undefined)
    const now = pick(newest.sample)
    return `${label} ${now === undefined ? 'unknown' : text(now)} now, ${text(Math.max(0, ...values))} at most`
  })
  return `${title}: ${said.join('; ')}`
}
