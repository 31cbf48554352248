// Metrics as text in the Prometheus exposition format, version 0.0.4: what a metric is, how its lines are written.

/** Of an answer with such text. */
export const expositionType = 'text/plain; version=0.0.4; charset=utf-8'

/** A metric as it is declared once: its name ends in its unit, and in `_total` for what only grows. */
export interface MetricFamily {
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly labels: readonly string[]
  readonly help: string
}

export type Labels = Readonly<Record<string, string>>

/** The lines before the values. */
export function familyHead({ name, type, help }: MetricFamily): string {
  return `# HELP ${name} ${help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}\n# TYPE ${name} ${type}\n`
}

/** `{a="1",b="2"}`, empty without labels. Made once for all values of one thing. */
export function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

export function valueLine(name: string, labels: string, value: number): string {
  return `${name}${labels} ${valueText(value)}\n`
}

/** A value with its labels; values of one family have different ones. */
export type LabelledValue = readonly [labels: Labels, value: number]

/** The whole family; empty without values, since a metric that is not there says more than a head alone. */
export function familyText(family: MetricFamily, values: Iterable<LabelledValue>): string {
  let text = ''
  for (const [labels, value] of values) text += valueLine(family.name, labelText(labels), value)
  return text === '' ? '' : familyHead(family) + text
}

function valueText(value: number): string {
  if (Number.isFinite(value)) return String(value)
  return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf'
}

function escaped(value: string): string {
  // Nearly no value needs it, and there are many.
  if (!/["\\\n]/.test(value)) return value
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}
