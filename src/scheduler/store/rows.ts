// Small conversions between SQLite's rows and records.

import type { Page } from './store.ts'

/** SQLite's NULL as what TypeScript calls absent. */
export function given<Value>(value: Value | null): Value | undefined {
  return value ?? undefined
}

/** A JSON column that we wrote ourselves. */
export function fromJson<Value>(text: string): Value {
  return JSON.parse(text) as Value
}

export function fromJsonOrNull<Value>(text: string | null): Value | undefined {
  return text === null ? undefined : fromJson<Value>(text)
}

/** Cuts a list that was asked for with one item more than the limit. */
export function page<Row, Item>(rows: readonly Row[], limit: number, toItem: (row: Row) => Item): Page<Item> {
  return { items: rows.slice(0, limit).map(toItem), more: rows.length > limit }
}
