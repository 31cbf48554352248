// Sizes and durations: what is written is what is meant, and what is unclear is refused.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  formatBytes,
  formatBytesShort,
  formatDuration,
  formatRatio,
  formatTime,
  parseBytes,
  parseDuration,
  parseInteger
} from '../../src/cli/quantities.ts'
import { HostletError } from '../../src/errors.ts'

const badRequest = (error: unknown) => error instanceof HostletError && error.code === 'E_BAD_REQUEST'

describe('sizes', () => {
  it('are read with binary and decimal units', () => {
    const known = {
      '512MiB': 512 * 1024 ** 2,
      '1.5G': 1.5 * 1024 ** 3,
      '10 GB': 1e10,
      '4096': 4096,
      '1K': 1024,
      '7B': 7
    }
    for (const [text, bytes] of Object.entries(known)) assert.equal(parseBytes(text), bytes, text)
  })

  it('are refused when unclear', () => {
    for (const text of [
      '',
      'lots',
      '-1',
      '1.5',
      '1e9',
      '5 XB',
      '1mib',
      '0x10',
      '9999999TiB',
      '1 2',
      'NaN',
      'Infinity'
    ])
      assert.throws(() => parseBytes(text), badRequest, text)
  })

  it('are printed so that they read back within three digits', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 50 }), (bytes) => {
        const [value = '', unit = ''] = formatBytes(bytes).split(' ')
        const factor = 1024 ** ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'].indexOf(unit)
        assert.ok(Math.abs(Number(value) * factor - bytes) <= bytes * 0.006 + 0.5, formatBytes(bytes))
      })
    )
    assert.equal(formatBytes(0), '0 B')
    assert.equal(formatBytes(512 * 1024 ** 2), '512 MiB')
    assert.equal(formatBytesShort(1536), '1.5K')
    assert.equal(formatRatio(0.125), '12.5 %')
  })
})

describe('durations', () => {
  it('are read with their units, added up', () => {
    const known = {
      '90s': 90_000,
      '1h30m': 5_400_000,
      '250ms': 250,
      '1.5s': 1_500,
      '2d': 172_800_000,
      '1m1ms': 60_001
    }
    for (const [text, ms] of Object.entries(known)) assert.equal(parseDuration(text), ms, text)
  })

  it('are refused without a unit and when unclear', () => {
    for (const text of ['', '5', '5 minutes', 'm', '-5s', '1h 30', '0.0001ms', '9e9d'])
      assert.throws(() => parseDuration(text), badRequest, text)
  })

  it('are printed by their two largest units', () => {
    const known: readonly (readonly [number, string])[] = [
      [0, '0ms'],
      [999, '999ms'],
      [4_250, '4.2s'],
      [59_999, '59.9s'],
      [192_000, '3m12s'],
      [5_400_000, '1h30m'],
      [187_200_000, '2d4h']
    ]
    for (const [ms, text] of known) assert.equal(formatDuration(ms), text)
  })
})

describe('other figures', () => {
  it('holds whole numbers to their limits', () => {
    const limits = { what: '--cpus', minimum: 1, maximum: 8 }
    assert.equal(parseInteger('8', limits), 8)
    for (const text of ['0', '9', '1.5', 'two', '', '1e0'])
      assert.throws(() => parseInteger(text, limits), /--cpus must be a whole number from 1 to 8/)
  })

  it('prints a moment in local time', () => {
    assert.match(formatTime(1_700_000_000_000), /^2023-11-1[45] \d\d:\d\d:20$/)
  })
})
