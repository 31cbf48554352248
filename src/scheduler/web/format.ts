// Figures and times as people read them. Nothing here knows a browser.

const bytesSteps = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

/** `1.5 GiB`; three digits at most. */
export function bytes(value: number): string {
  let index = 0
  let rest = value
  while (rest >= 1000 && index < bytesSteps.length - 1) {
    rest /= 1024
    index++
  }
  return `${digits(rest)} ${bytesSteps[index]}`
}

export function bytesPerSecond(value: number): string {
  return `${bytes(value)}/s`
}

/** Of 0 to 1. */
export function percent(ratio: number): string {
  const value = ratio * 100
  return `${value > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value)} %`
}

export function cores(value: number): string {
  return `${value.toFixed(value < 10 ? 2 : 1)}`
}

export function count(value: number): string {
  return value.toLocaleString('en-GB')
}

const spans: readonly [string, number][] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1_000]
]

/** `2 h 5 min`; two units at most. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`
  const first = spans.findIndex(([, span]) => ms >= span)
  const [unit, span] = spans[first] ?? ['s', 1_000]
  const [nextUnit, nextSpan] = spans[first + 1] ?? ['', 0]
  const whole = Math.floor(ms / span)
  const rest = nextSpan === 0 ? 0 : Math.floor((ms - whole * span) / nextSpan)
  return rest === 0 ? `${whole} ${unit}` : `${whole} ${unit} ${rest} ${nextUnit}`
}

/** `5 min ago`, `in 2 h`; one unit. */
export function ago(at: number, now: number): string {
  const distance = Math.abs(now - at)
  if (distance < 5_000) return 'now'
  const [unit, span] = spans.find(([, size]) => distance >= size) ?? ['s', 1_000]
  const text = `${Math.floor(distance / span)} ${unit}`
  return at <= now ? `${text} ago` : `in ${text}`
}

/** `2026-11-28 06:14:09`, where the reader is. */
export function moment(at: number): string {
  const date = new Date(at)
  const two = (value: number) => String(value).padStart(2, '0')
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
}

export function shortId(id: string): string {
  return id.slice(-12)
}

export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`
}

function digits(value: number): string {
  if (value >= 100 || Number.isInteger(value)) return String(Math.round(value))
  return value.toFixed(value >= 10 ? 1 : 2).replace(/\.?0+$/, '')
}
