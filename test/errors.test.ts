// Errors: what reaches a caller, and what a thrown surprise becomes.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { asHostletError, errorCodes, HostletError, isErrorCode } from '../src/errors.ts'

describe('HostletError', () => {
  it('reports code, message and details, and leaves out details that are empty', () => {
    const full = new HostletError('E_NOT_FOUND', 'VM web-1 is not defined', { details: { vm: 'web-1' } })
    assert.deepEqual(full.toReport(), {
      code: 'E_NOT_FOUND',
      message: 'VM web-1 is not defined',
      details: { vm: 'web-1' }
    })
    assert.deepEqual(new HostletError('E_BUSY', 'later').toReport(), { code: 'E_BUSY', message: 'later' })
  })

  it('advises by code: nothing happened, outcome unknown, or never again', () => {
    assert.equal(new HostletError('E_BUSY', '').advice, 'retry')
    assert.equal(new HostletError('E_TIMEOUT', '').advice, 'look')
    assert.equal(new HostletError('E_STALE', '').advice, 'refuse')
  })

  it('passes its own kind through and turns anything else into E_INTERNAL with the cause kept', () => {
    const own = new HostletError('E_AUTH', 'no')
    assert.equal(asHostletError(own), own)
    const surprise = new TypeError('x is not a function')
    const wrapped = asHostletError(surprise)
    assert.equal(wrapped.code, 'E_INTERNAL')
    assert.equal(wrapped.cause, surprise)
    assert.match(asHostletError('a string').message, /a string/)
    const full = Object.assign(new Error("ENOSPC: no space left on device, write '/run/x'"), {
      code: 'ENOSPC'
    })
    assert.equal(asHostletError(full).code, 'E_CAPACITY')
    assert.match(asHostletError(full).message, /\/run\/x.*free some/)
  })

  it('has an exit code above zero and an HTTP error status for each code', () => {
    for (const [code, entry] of Object.entries(errorCodes)) {
      assert.ok(entry.exitCode > 0 && entry.exitCode < 64, code)
      assert.ok(entry.httpStatus >= 400 && entry.httpStatus < 600, code)
    }
  })

  it('knows its codes and nothing that objects inherit', () => {
    assert.equal(isErrorCode('E_CORRUPT'), true)
    for (const other of ['toString', '__proto__', 'E_NOPE', 7, null]) assert.equal(isErrorCode(other), false)
  })
})
