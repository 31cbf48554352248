// Sizes, durations and rates as people write and read them: `512MiB`, `1h30m`, `3.4 MiB/s`.

import { HostletError } from '../errors.ts'

const kibi = 1024
/** Binary units, also by their short names, as QEMU's tools take them; the decimal ones only in full. */
const byteUnits: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  K: kibi,
  KiB: kibi,
  M: kibi ** 2,
  MiB: kibi ** 2,
  G: kibi ** 3,
  GiB: kibi ** 3,
  T: kibi ** 4,
  TiB: kibi ** 4,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12
}
const durationUnits: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000
}
const printedUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

/** `512MiB`, `1.5G`, `1048576`. Throws E_BAD_REQUEST. */
export function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text.trim())
  const factor = match === null ? undefined : byteUnits[match[2] ?? '']
  const bytes = Number(match?.[1]) * (factor ?? Number.NaN)
  if (Number.isSafeInteger(bytes)) return bytes
  throw new HostletError(
    'E_BAD_REQUEST',
    `"${text}" is not a size. Write a whole number of bytes or a unit, such as 512MiB or 10GiB.`
  )
}

/** `90s`, `1h30m`, `250ms`, to milliseconds. A bare number would leave its unit to guesswork. Throws E_BAD_REQUEST. */
export function parseDuration(text: string): number {
  const trimmed = text.trim()
  let ms = 0
  let rest = trimmed
  while (rest !== '') {
    const match = /^(\d+(?:\.\d+)?)(ms|[smhd])/.exec(rest)
    if (match === null) break
    ms += Number(match[1]) * (durationUnits[match[2] ?? ''] ?? Number.NaN)
    rest = rest.slice(match[0].length)
  }
  if (trimmed !== '' && rest === '' && Number.isSafeInteger(ms)) return ms
  throw new HostletError(
    'E_BAD_REQUEST',
    `"${text}" is not a duration. Write it with units, such as 90s, 5m or 1h30m.`
  )
}

/** A moment, written as one (`2026-11-27T08:00:00Z`) or as how long ago it is (`2h`). Throws E_BAD_REQUEST. */
export function parseMoment(text: string, nowMs: number): number {
  const moment = Date.parse(text)
  if (/^\d{4}-/.test(text) && !Number.isNaN(moment)) return moment
  if (/^\d/.test(text)) return nowMs - parseDuration(text)
  throw new HostletError(
    'E_BAD_REQUEST',
    `"${text}" is no time. Write a duration such as 2h, or a moment such as 2026-11-27T08:00:00Z.`
  )
}

/** A whole number within limits. Throws E_BAD_REQUEST naming the option. */
export function parseInteger(
  text: string,
  limits: { what: string; minimum: number; maximum: number }
): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (value >= limits.minimum && value <= limits.maximum) return value
  throw new HostletError(
    'E_BAD_REQUEST',
    `${limits.what} must be a whole number from ${limits.minimum} to ${limits.maximum}, not "${text}".`
  )
}

/** `0 B`, `512 MiB`, `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= kibi && unit < printedUnits.length - 1) {
    value /= kibi
    unit += 1
  }
  return `${threeDigits(value)} ${printedUnits[unit]}`
}

/** As `top` writes it, for crowded tables: `512M`, `1.5G`, `0`; two digits are enough there. */
export function formatBytesShort(bytes: number): string {
  const [value = '', unit = ''] = formatBytes(bytes).split(' ')
  const number = Number(value)
  const short = number < 10 ? trimZero(number.toFixed(1)) : String(Math.round(number))
  return `${short}${unit === 'B' ? '' : unit.charAt(0)}`
}

export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`
}

/** `0.41 %`, `12 %`. */
export function formatRatio(ratio: number): string {
  return `${threeDigits(ratio * 100)} %`
}

/** The two largest units: `850ms`, `4.2s`, `3m12s`, `2d4h`. */
export function formatDuration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)}ms`
  if (ms < 60_000) return `${(Math.floor(ms / 100) / 10).toFixed(1)}s`
  const seconds = Math.floor(ms / 1_000)
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m${seconds % 60}s`
  const hours = Math.floor(seconds / 3_600)
  if (hours < 24) return `${hours}h${Math.floor((seconds % 3_600) / 60)}m`
  return `${Math.floor(hours / 24)}d${hours % 24}h`
}

/** A moment as a person reads it, in the machine's time zone: `2026-11-20 21:58:03`. */
export function formatTime(atMs: number): string {
  const date = new Date(atMs - new Date(atMs).getTimezoneOffset() * 60_000)
  return date.toISOString().slice(0, 19).replace('T', ' ')
}

function threeDigits(value: number): string {
  if (value === 0 || value >= 100) return String(Math.round(value))
  if (value >= 10) return trimZero(value.toFixed(value >= 99.95 ? 0 : 1))
  return trimZero(value.toFixed(2))
}

function trimZero(text: string): string {
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text
}
