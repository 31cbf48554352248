// Whether somebody is at a page of the dashboard, and what its questions say of that.

import assert from 'node:assert/strict'
import { describe, it, mock } from 'node:test'
import { Api } from '../../../src/scheduler/web/api.ts'
import { Attendance, attendedMs } from '../../../src/scheduler/web/attendance.ts'

describe('an attended page', () => {
  it('is one that was just opened, clicked or typed at', () => {
    let now = 1_000
    const page = new EventTarget()
    const attendance = new Attendance(page, () => now)
    for (const sign of ['pointerdown', 'keydown', 'wheel', 'touchstart']) {
      assert.equal(attendance.isAttended, true)
      now += attendedMs
      assert.equal(attendance.isAttended, false)
      page.dispatchEvent(new Event(sign))
    }
    assert.equal(attendance.isAttended, true)
  })

  it('says with what it asks by itself when nobody is there, and with nothing else', async () => {
    const attendance = { isAttended: true }
    const api = new Api(attendance)
    const fetched = mock.method(globalThis, 'fetch', async () => Response.json({}))
    const said = async (asked: Promise<unknown>) => {
      await asked
      const { headers } = fetched.mock.calls.at(-1)?.arguments[1] ?? {}
      return new Headers(headers).get('x-hostlet-background')
    }
    const { signal } = new AbortController()
    try {
      assert.equal(await said(api.look('/v1/vms', signal)), null)
      attendance.isAttended = false
      assert.equal(await said(api.look('/v1/vms', signal)), '1')
      assert.equal(await said(api.get('/v1/vms')), null)
      assert.equal(await said(api.ask('POST', '/v1/vms/web-1/start')), null)
    } finally {
      fetched.mock.restore()
    }
  })
})
