// Paths of the dashboard, both ways; and that the server has a page for each.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { webPages } from '../../../src/scheduler/http/web.ts'
import { pages, pathTo, placeOf, withQuery } from '../../../src/scheduler/web/routes.ts'

describe('paths of the dashboard', () => {
  it('lead to the page that they were made for', () => {
    for (const page of pages) {
      const name = pathTo(page, 'x') === pathTo(page, 'y') ? '' : 'a/b ?#&%'
      assert.deepEqual(placeOf(pathTo(page, name)), { page, name })
    }
  })

  it('are those that the server answers', () => {
    const known = pages.map((page) => pathTo(page, ':').replace('%3A', ':'))
    assert.deepEqual(known.toSorted(), webPages.map((path) => path.replace(/:\w+/, ':')).toSorted())
  })

  it('that are no page lead nowhere', () => {
    for (const path of [
      '/vm',
      '/vms/web-1/console/1',
      '/hosts/h/console',
      '/v1/vms',
      '/hosts/%E0%A4%A',
      '/openapi.json'
    ])
      assert.equal(placeOf(path), undefined, path)
  })

  it('carry a query without what is empty', () => {
    assert.equal(withQuery('/vms', { search: '', state: undefined }), '/vms')
    assert.equal(
      withQuery('/vms', { search: 'a&b', amiss: true, limit: 5 }),
      '/vms?search=a%26b&amiss=true&limit=5'
    )
  })
})
