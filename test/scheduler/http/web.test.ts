// The dashboard over HTTP: its headers, caching, and that nothing but its closed table of files is ever answered with.

import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { after, before, describe, it } from 'node:test'
import { brotliDecompressSync } from 'node:zlib'
import { webPages } from '../../../src/scheduler/http/web.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

interface Got {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
}

describe('the dashboard over HTTP', () => {
  let scheduler: TestScheduler
  before(async () => {
    scheduler = await TestScheduler.start()
  })
  after(() => scheduler[Symbol.asyncDispose]())

  /** The path is sent as it is: nobody tidies it up on the way. */
  function get(path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Got> {
    const { url, ca } = scheduler.api
    const { hostname, port } = new URL(url)
    return new Promise((resolve, reject) => {
      const sent = request({ hostname, port, ca, path, headers, method, agent: false }, async (response) => {
        const chunks: Buffer[] = []
        for await (const chunk of response) chunks.push(chunk as Buffer)
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) })
      })
      sent.on('error', reject)
      sent.end()
    })
  }

  async function filesOfPage(): Promise<string[]> {
    const page = (await get('/')).body.toString()
    return [...page.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)].map(([, path = '']) => path)
  }

  it('answers every page of the application with the same document', async () => {
    const first = await get('/')
    assert.equal(first.status, 200)
    assert.equal(first.headers['content-type'], 'text/html; charset=utf-8')
    for (const pattern of webPages) {
      const { status, body } = await get(`${pattern.replace(/:\w+/, 'web-1')}?search=a`)
      assert.equal(status, 200, pattern)
      assert.deepEqual(body, first.body, pattern)
    }
  })

  it('lets a page load nothing but its own files, and be framed by nobody', async () => {
    const { headers } = await get('/vms')
    const policy = new Map(
      String(headers['content-security-policy'])
        .split('; ')
        .map((rule) => {
          const [name = '', ...sources] = rule.split(' ')
          return [name, sources.join(' ')] as const
        })
    )
    assert.deepEqual(Object.fromEntries(policy), {
      'default-src': "'none'",
      'script-src': "'self'",
      'style-src': "'self'",
      'img-src': "'self'",
      'connect-src': "'self'",
      'form-action': "'self'",
      'base-uri': "'none'",
      'frame-ancestors': "'none'",
      'require-trusted-types-for': "'script'",
      'trusted-types': "'none'"
    })
    assert.equal(headers['cache-control'], 'no-cache')
  })

  it('says of every answer what a browser may do with it, errors and the API included', async () => {
    const [file = ''] = await filesOfPage()
    for (const path of ['/', file, '/nothing', '/v1/vms', '/healthz', '/openapi.json']) {
      const { headers } = await get(path)
      assert.equal(headers['x-content-type-options'], 'nosniff', path)
      assert.equal(headers['referrer-policy'], 'no-referrer', path)
      assert.equal(headers['cross-origin-opener-policy'], 'same-origin', path)
      assert.equal(headers['cross-origin-resource-policy'], 'same-origin', path)
      assert.match(String(headers['content-security-policy']), /default-src 'none'/, path)
    }
    assert.equal((await get('/v1/vms')).headers['cache-control'], 'no-store')
  })

  it('serves every file that the page names, to be kept for ever', async () => {
    const files = await filesOfPage()
    assert.ok(files.length > 25)
    for (const path of files) {
      const { status, headers, body } = await get(path)
      assert.equal(status, 200, path)
      assert.match(String(headers['cache-control']), /immutable/, path)
      assert.ok(body.length > 0, path)
    }
  })

  it('compresses for whoever takes that, and has a tag for each form', async () => {
    const path = (await filesOfPage()).find((file) => file.endsWith('uplot.js')) ?? ''
    const plain = await get(path)
    const packed = await get(path, { 'accept-encoding': 'gzip, deflate, br' })
    assert.equal(packed.headers['content-encoding'], 'br')
    assert.equal(packed.headers.vary, 'accept-encoding')
    assert.deepEqual(brotliDecompressSync(packed.body), plain.body)
    assert.notEqual(packed.headers.etag, plain.headers.etag)
    assert.equal((await get(path, { 'accept-encoding': 'br;q=0, gzip' })).headers['content-encoding'], 'gzip')
    assert.equal((await get(path, { 'accept-encoding': 'identity' })).headers['content-encoding'], undefined)
  })

  it('says that nothing has changed to whoever has the page', async () => {
    const { etag = '' } = (await get('/')).headers
    const again = await get('/hosts', { 'if-none-match': `"other", W/${etag}` })
    assert.equal(again.status, 304)
    assert.equal(again.body.length, 0)
    assert.match(String(again.headers['content-security-policy']), /script-src 'self'/)
    assert.equal((await get('/', { 'if-none-match': '"other"' })).status, 200)
  })

  it('answers HEAD without a body', async () => {
    const { status, body, headers } = await get('/', {}, 'HEAD')
    assert.deepEqual([status, body.length], [200, 0])
    assert.equal(headers['content-type'], 'text/html; charset=utf-8')
  })

  it('has no file outside of its table, however it is asked for', async () => {
    const [file = ''] = await filesOfPage()
    const base = file.split('/').slice(0, 3).join('/')
    const tricks = [
      `${base}/../../../../../../etc/passwd`,
      `${base}/..%2f..%2f..%2fetc%2fpasswd`,
      `${base}/%2e%2e/%2e%2e/package.json`,
      `${base}/..\\..\\package.json`,
      `${base}/main.ts`,
      `${base}/tsconfig.json`,
      `${base}/index.html`,
      `${base}//main.js`,
      `${base}/main.js/`,
      `${base}/main.js%00.css`,
      `${base}/__proto__`,
      '/assets/',
      '/assets/main.js',
      '/assets/0000000000000000/main.js',
      '//etc/passwd'
    ]
    for (const path of tricks) {
      const { status, body, headers } = await get(path, { accept: 'text/html' })
      assert.ok(status === 404 || status === 400, `${path}: ${status}`)
      assert.doesNotMatch(body.toString(), /root:|"name": "hostlet"|stripTypes/, path)
      assert.doesNotMatch(String(headers['cache-control']), /immutable/, path)
    }
  })

  it('tells people of an unknown path with a page, programs with an error', async () => {
    const page = await get('/vm/web-1/x', { accept: 'text/html,*/*' })
    assert.equal(page.status, 404)
    assert.match(page.body.toString(), /There is no such page/)
    assert.match(String(page.headers['content-security-policy']), /script-src 'self'/)
    for (const [path, accept] of [
      ['/vm/web-1/x', '*/*'],
      ['/v1/nothing', 'text/html']
    ] as const) {
      const { status, body } = await get(path, { accept })
      assert.equal(status, 404)
      assert.equal(JSON.parse(body.toString()).error.code, 'E_NOT_FOUND')
    }
  })

  it('shows nothing of the fleet to whoever is not signed in', async () => {
    await scheduler.enroll('kvm-secret')
    for (const path of ['/', '/hosts', '/hosts/kvm-secret'])
      assert.doesNotMatch((await get(path)).body.toString(), /kvm-secret/)
  })
})
