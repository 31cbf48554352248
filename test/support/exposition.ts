// Reads the text format of Prometheus as strictly as it is specified: heads before values, a family in one piece, no value twice.

import assert from 'node:assert/strict'

export interface ReadFamily {
  readonly type: string
  readonly help: string
  readonly values: {
    readonly name: string
    readonly labels: Record<string, string>
    readonly value: number
  }[]
}

export function readExposition(text: string): Map<string, ReadFamily> {
  assert.ok(text.endsWith('\n'), 'the last line has no end')
  const families = new Map<string, ReadFamily>()
  const seen = new Set<string>()
  let current: { name: string; family: ReadFamily } | undefined
  const lines = text.slice(0, -1).split('\n')
  for (const [index, line] of lines.entries()) {
    const help = /^# HELP (\S+) (.+)$/.exec(line)
    if (help?.[1] !== undefined) {
      const type = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(lines[index + 1] ?? '')
      assert.equal(type?.[1], help[1], `no TYPE after ${line}`)
      assert.ok(!families.has(help[1]), `${help[1]} comes twice`)
      current = { name: help[1], family: { type: type?.[2] ?? '', help: help[2] ?? '', values: [] } }
      families.set(help[1], current.family)
      continue
    }
    if (line.startsWith('# TYPE ')) continue
    const value = readValue(line)
    assert.ok(current, `${line} has no family`)
    const suffix = value.name.slice(current.name.length)
    const isOf = current.family.type === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']
    assert.ok(value.name.startsWith(current.name) && isOf.includes(suffix), `${line} in ${current.name}`)
    const key = line.slice(0, line.lastIndexOf(' '))
    assert.ok(!seen.has(key), `${key} comes twice`)
    seen.add(key)
    current.family.values.push(value)
  }
  return families
}

function readValue(line: string): ReadFamily['values'][number] {
  const match = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? (\S+)$/.exec(line)
  assert.ok(match?.[1], `cannot be read: ${line}`)
  const value = match[3] === '+Inf' ? Number.POSITIVE_INFINITY : Number(match[3])
  assert.ok(match[3] === 'NaN' || !Number.isNaN(value), `not a value: ${line}`)
  return { name: match[1], labels: readLabels(match[2] ?? ''), value }
}

function readLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {}
  let rest = text.slice(1, -1)
  while (rest !== '') {
    const match = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(?:,(?=.)|$)/.exec(rest)
    assert.ok(match?.[1], `cannot be read: ${text}`)
    assert.ok(!(match[1] in labels), `${match[1]} twice in ${text}`)
    labels[match[1]] = (match[2] ?? '').replace(/\\(.)/g, (_all, character: string) =>
      character === 'n' ? '\n' : character
    )
    rest = rest.slice(match[0].length)
  }
  return labels
}
