// The room beside the journal: put aside while there is some, given up once for a start on a full disk, never for anything else.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { openWithReserve, reserveBytes } from '../../../src/agent/operations/reserve.ts'
import { type ErrorCode, HostletError } from '../../../src/errors.ts'

describe('the reserve of the journal', () => {
  let directory: string
  let path: string
  let reserve: string
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-reserve-'))
    path = join(directory, 'agent.db')
    reserve = `${path}.reserve`
  })
  afterEach(() => rmSync(directory, { recursive: true }))

  /** Opens nothing where the reserve is there, and tells how often it was asked. */
  const failing = (code: ErrorCode, asked: boolean[]) => () => {
    asked.push(existsSync(reserve))
    if (existsSync(reserve)) throw new HostletError(code, 'no')
    return 'opened'
  }

  it('is put aside by a start that goes well, for its owner only, and takes its room', () => {
    assert.equal(
      openWithReserve(path, () => 'opened'),
      'opened'
    )
    const { size, mode, blocks } = statSync(reserve)
    assert.deepEqual([size, mode & 0o777], [reserveBytes, 0o600])
    assert.ok(blocks * 512 >= reserveBytes, 'it is no hole')
  })

  it('is made whole again where a full disk cut it', () => {
    writeFileSync(reserve, 'cut')
    openWithReserve(path, () => undefined)
    assert.equal(statSync(reserve).size, reserveBytes)
  })

  it('is given up where the disk is full, and put aside by the next start that finds room', () => {
    openWithReserve(path, () => undefined)
    const asked: boolean[] = []
    assert.equal(openWithReserve(path, failing('E_CAPACITY', asked)), 'opened')
    assert.deepEqual(asked, [true, false])
    assert.equal(existsSync(reserve), false)
    openWithReserve(path, () => undefined)
    assert.equal(statSync(reserve).size, reserveBytes)
  })

  it('stays where it would not help', () => {
    openWithReserve(path, () => undefined)
    const asked: boolean[] = []
    assert.throws(() => openWithReserve(path, failing('E_CORRUPT', asked)), { code: 'E_CORRUPT' })
    assert.deepEqual([asked, statSync(reserve).size], [[true], reserveBytes])
  })

  it('is tried once, and not where there is none', () => {
    const asked: boolean[] = []
    const full = () => {
      asked.push(existsSync(reserve))
      throw new HostletError('E_CAPACITY', 'the disk is full')
    }
    assert.throws(() => openWithReserve(path, full), { code: 'E_CAPACITY' })
    assert.deepEqual(asked, [false])
    writeFileSync(reserve, '.')
    assert.throws(() => openWithReserve(path, full), { code: 'E_CAPACITY' })
    assert.deepEqual(asked, [false, true, false])
  })

  it('keeps no agent from starting where it cannot be put aside', () => {
    const away = join(directory, 'away', 'agent.db')
    assert.equal(
      openWithReserve(away, () => 'opened'),
      'opened'
    )
    mkdirSync(join(directory, 'away'))
    assert.equal(existsSync(`${away}.reserve`), false)
  })
})
