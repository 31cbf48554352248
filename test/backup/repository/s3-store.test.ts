// The S3 store against a real gateway: the promises of every store, broken connections, refused credentials, no secret anywhere.

import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { createServer } from 'node:https'
import { after, before, describe, it } from 'node:test'
import { inspect } from 'node:util'
import { acquireLock } from '../../../src/backup/repository/lock.ts'
import { openStore, type StoreSettings } from '../../../src/backup/repository/open-store.ts'
import { ensureRepository } from '../../../src/backup/repository/repository.ts'
import { S3Store, type S3Tuning } from '../../../src/backup/repository/s3-store.ts'
import type { HostletError } from '../../../src/errors.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { BreakingProxy } from '../../support/breaking-proxy.ts'
import { FakeClock, settle } from '../../support/fake-clock.ts'
import { type Radosgw, radosgwMissing, startRadosgw } from '../../support/radosgw.ts'
import { TestAuthority } from '../../support/test-authority.ts'
import { hasCode, names, objectStoreContract } from './store.contract.ts'

const wait = { signal: new AbortController().signal }
const mebibyte = 1_048_576
/** The smallest parts that S3 allows, and no waiting between attempts. */
const tuning: S3Tuning = { partsFromBytes: 6 * mebibyte, partBytes: 5 * mebibyte, random: () => 0 }
const bucket = 'hl-t-bucket'

describe('S3 store at a Ceph gateway', { skip: radosgwMissing }, () => {
  let service: Radosgw
  let proxy: BreakingProxy
  before(async () => {
    service = await startRadosgw()
    proxy = await BreakingProxy.start(service.port)
    const { S3Client, CreateBucketCommand } = await import('@aws-sdk/client-s3')
    const { endpoint, credentials } = service
    const client = new S3Client({ endpoint, credentials, region: 'us-east-1', forcePathStyle: true })
    await client.send(new CreateBucketCommand({ Bucket: bucket }))
    client.destroy()
  })
  after(async () => {
    await proxy?.[Symbol.asyncDispose]()
    await service?.[Symbol.asyncDispose]()
  })

  async function open(more: Partial<StoreSettings> & S3Tuning = {}, url = `s3://${bucket}/${randomUUID()}`) {
    const { endpoint, credentials } = service
    const context = { clock: systemClock, signal: wait.signal }
    return await S3Store.open(new URL(url), { url, endpoint, credentials, ...more }, context, {
      ...tuning,
      ...more
    })
  }

  async function throughProxy(run: (store: S3Store) => Promise<void>, more: S3Tuning = {}): Promise<void> {
    const store = await open({ endpoint: proxy.endpoint, ...more })
    try {
      await run(store)
    } finally {
      await store.close()
    }
  }

  async function uploadsInProgress(): Promise<number> {
    const { S3Client, ListMultipartUploadsCommand } = await import('@aws-sdk/client-s3')
    const { endpoint, credentials } = service
    const client = new S3Client({ endpoint, credentials, region: 'us-east-1', forcePathStyle: true })
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }))
    client.destroy()
    return Uploads.length
  }

  objectStoreContract('S3', { open, conditionalWrites: true, largeBytes: 12 * mebibyte })

  it('opens by its address and becomes a repository, once', async () => {
    const { endpoint, credentials } = service
    const settings = { url: `s3://${bucket}/${randomUUID()}`, endpoint, credentials }
    const store = await openStore(settings, { clock: systemClock, signal: wait.signal })
    const [first, second] = await Promise.all([ensureRepository(store, wait), ensureRepository(store, wait)])
    assert.deepEqual(first, second)
    assert.deepEqual(await names(store), ['hostlet-repository.json'])
    await store.close()
  })

  it('carries the lock of a vault', async () => {
    const store = await open()
    const lock = (host: string) =>
      acquireLock(store, {
        name: 'vms/1/locks',
        holder: { host },
        clock: systemClock,
        signal: wait.signal,
        waitMs: 0
      })
    const attempts = await Promise.allSettled(['kvm-1', 'kvm-2', 'kvm-3'].map(lock))
    const held = attempts.flatMap((attempt) => (attempt.status === 'fulfilled' ? [attempt.value] : []))
    assert.equal(held.length, 1)
    await held[0]?.confirm()
    await assert.rejects(lock('kvm-4'), hasCode('E_BUSY'))
    await held[0]?.release()
    assert.deepEqual(await names(store), [])
    await store.close()
  })

  it('lists more than one page', async () => {
    const store = await open()
    const expected = Array.from({ length: 1_010 }, (_, index) => `a/${index}`).sort()
    await Promise.all(expected.map((name) => store.put(name, [Buffer.from('x')], wait)))
    assert.deepEqual(await names(store, 'a/'), expected)
    await store.close()
  })

  it('mends an upload that was cut in the middle', async () => {
    await throughProxy(async (store) => {
      const content = randomBytes(4 * mebibyte)
      proxy.break({ kind: 'cut', direction: 'up', afterBytes: mebibyte }, { kind: 'refuse' })
      await store.put('one', [content], wait)
      assert.ok(content.equals(await store.get('one', wait)))
    })
  })

  it('mends a part of a large upload that was cut', async () => {
    await throughProxy(async (store) => {
      const content = randomBytes(12 * mebibyte)
      const cut = { kind: 'cut', direction: 'up', afterBytes: mebibyte } as const
      proxy.break(cut, cut, cut)
      await store.put('one', [content], wait)
      assert.ok(content.equals(await store.get('one', wait)))
      assert.equal(await uploadsInProgress(), 0)
    })
  })

  it('never shows a half upload, and leaves none behind', async () => {
    const cuts = Array.from(
      { length: 40 },
      () => ({ kind: 'cut', direction: 'up', afterBytes: mebibyte }) as const
    )
    await throughProxy(
      async (store) => {
        proxy.break(...cuts)
        await assert.rejects(store.put('small', [randomBytes(4 * mebibyte)], wait), hasCode('E_UNAVAILABLE'))
        await assert.rejects(store.put('large', [randomBytes(12 * mebibyte)], wait), hasCode('E_UNAVAILABLE'))
        proxy.break()
        assert.deepEqual(await names(store), [])
        assert.equal(await uploadsInProgress(), 0)
      },
      { attemptsMax: 2 }
    )
  })

  it('aborts the unfinished uploads of writers that died, and those only below its own prefix', async () => {
    const { S3Client, CreateMultipartUploadCommand } = await import('@aws-sdk/client-s3')
    const { endpoint, credentials } = service
    const client = new S3Client({ endpoint, credentials, region: 'us-east-1', forcePathStyle: true })
    const prefix = randomUUID()
    for (const Key of [`${prefix}/dead`, `${prefix}-other/alive`])
      await client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key }))
    client.destroy()
    const content = randomBytes(7 * mebibyte)
    for (const [uploadAgeMsMax, left] of [[3_600_000, 2] as const, [-1, 1] as const]) {
      const store = await open({ uploadAgeMsMax }, `s3://${bucket}/${prefix}`)
      await store.put('one', [content], wait)
      assert.equal(await uploadsInProgress(), left)
      assert.ok(content.equals(await store.get('one', wait)))
      await store.close()
    }
  })

  it('mends a download that was cut in the middle', async () => {
    await throughProxy(async (store) => {
      const content = randomBytes(4 * mebibyte)
      await store.put('one', [content], wait)
      proxy.break({ kind: 'cut', direction: 'down', afterBytes: mebibyte })
      assert.ok(content.equals(await store.get('one', wait)))
      assert.equal(proxy.faultsUsed > 0, true)
    })
  })

  it('stores no bytes that were changed on the way', async () => {
    await throughProxy(async (store) => {
      const content = randomBytes(mebibyte)
      const used = proxy.faultsUsed
      proxy.break({ kind: 'flip', atByte: 500_000 })
      await store.put('one', [content], wait)
      assert.equal(proxy.faultsUsed, used + 1)
      assert.ok(content.equals(await store.get('one', wait)))
    })
  })

  it('tries again what the service refuses for being busy, and says so when it goes on', async () => {
    const busy = {
      kind: 'answer',
      text: 'HTTP/1.1 503 Slow Down\r\nContent-Length: 42\r\nConnection: close\r\n\r\n<Error><Code>SlowDown</Code></Error>      '
    } as const
    await throughProxy(
      async (store) => {
        proxy.break(busy, busy)
        await store.put('one', [Buffer.from('x')], wait)
        proxy.break(busy, busy, busy)
        await assert.rejects(store.put('two', [Buffer.from('x')], wait), (error: HostletError) => {
          assert.match(error.message, /slow down/)
          return error.code === 'E_UNAVAILABLE'
        })
      },
      { attemptsMax: 3 }
    )
  })

  it('gives up on a service that takes the request and never answers', async () => {
    const clock = new FakeClock()
    const { credentials } = service
    const url = `s3://${bucket}/silent`
    const settings = { url, endpoint: proxy.endpoint, credentials }
    const store = await S3Store.open(
      new URL(url),
      settings,
      { clock, signal: wait.signal },
      { attemptsMax: 2, random: () => 0 }
    )
    const used = proxy.faultsUsed
    proxy.break({ kind: 'silence' }, { kind: 'silence' })
    let over = false
    const getting = assert
      .rejects(store.get('one', wait), (error: HostletError) => {
        assert.match(error.message, /took longer than .* Check the endpoint/)
        return error.code === 'E_UNAVAILABLE'
      })
      .finally(() => {
        over = true
      })
    while (!over) {
      // Time passes only while a request is on its way.
      if (proxy.faultsUsed > used) await clock.advance(10_000)
      await settle()
    }
    await getting
    assert.equal(proxy.faultsUsed, used + 2)
    await store.close()
  })

  it('says that the clock of this host is wrong', async () => {
    const body = '<Error><Code>RequestTimeTooSkewed</Code></Error>'
    const text = `HTTP/1.1 403 Forbidden\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`
    await throughProxy(
      async (store) => {
        proxy.break({ kind: 'answer', text }, { kind: 'answer', text })
        await assert.rejects(store.put('one', [Buffer.from('x')], wait), (error: HostletError) => {
          assert.match(error.message, /clock of this host wrong\. Set it/)
          return error.code === 'E_UNAVAILABLE'
        })
      },
      { attemptsMax: 2 }
    )
  })

  it('knows its own conditional write whose answer was lost', async () => {
    await throughProxy(async (store) => {
      // The first conditional write of a store is preceded by its probe.
      await store.put('zero', [Buffer.from('x')], { ...wait, ifAbsent: true })
      proxy.break({ kind: 'cut', direction: 'down', afterBytes: 0 })
      await store.put('one', [Buffer.from('ours')], { ...wait, ifAbsent: true })
      await assert.rejects(
        store.put('one', [Buffer.from('more')], { ...wait, ifAbsent: true }),
        hasCode('E_CONFLICT')
      )
    })
  })

  it('ends at once when it is aborted, also while nothing is answered', async () => {
    await throughProxy(async (store) => {
      const controller = new AbortController()
      proxy.break({ kind: 'silence' })
      const reading = store.get('one', { signal: controller.signal })
      setImmediate(() => controller.abort(new Error('enough')))
      await assert.rejects(reading, /enough/)
    })
  })

  const secrets = () => [
    service.credentials.accessKeyId,
    service.credentials.secretAccessKey,
    'WRONGKEY',
    'wrong-secret'
  ]
  const refusals: Readonly<Record<string, [() => Partial<StoreSettings>, string, RegExp, string?]>> = {
    'an unknown key': [
      () => ({ credentials: { accessKeyId: 'WRONGKEY', secretAccessKey: 'wrong-secret' } }),
      'E_AUTH',
      /does not know the access key/
    ],
    'a wrong secret': [
      () => ({ credentials: { ...service.credentials, secretAccessKey: 'wrong-secret' } }),
      'E_AUTH',
      /secret key is not that of the access key/
    ],
    'a bucket that is not there': [
      () => ({}),
      'E_BAD_REQUEST',
      /no such bucket\. Make it/,
      's3://hl-t-absent/x'
    ],
    'a port where nobody listens': [
      () => ({ endpoint: 'http://127.0.0.1:9' }),
      'E_UNAVAILABLE',
      /Check the endpoint/
    ]
  }
  for (const [what, [settings, code, text, url]] of Object.entries(refusals))
    it(`says what to do about ${what}, and no secret`, async () => {
      const lines: unknown[] = []
      const store = await open({ ...settings(), attemptsMax: 2 }, url)
      for (const call of [
        () => store.put('one', [Buffer.from('x')], wait),
        () => store.get('one', wait),
        () => names(store)
      ])
        await assert.rejects(call, (error: HostletError) => {
          assert.equal(error.code, code)
          assert.match(error.message, text)
          lines.push(error, inspect(error, { depth: 20, showHidden: true }), error.toReport())
          return true
        })
      lines.push(store.description, inspect(store, { depth: 20, showHidden: true }))
      const said = inspect(lines, { depth: 20 })
      for (const secret of secrets()) assert.ok(!said.includes(secret), `${what} tells ${secret}`)
      await store.close()
    })
})

describe('S3 store over TLS', () => {
  it('trusts the authority that it is given, and no other', async () => {
    const [ours, theirs] = await Promise.all([TestAuthority.create(), TestAuthority.create()])
    const { cert, key } = await ours.issue({ names: ['127.0.0.1'], usage: 'server' })
    const server = createServer({ cert, key }, (request, response) => {
      request.resume().once('end', () => response.end())
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const endpoint = `https://127.0.0.1:${Object(server.address()).port}`
    const put = async (ca?: string) => {
      const url = 's3://hl-t-bucket/x'
      const credentials = { accessKeyId: 'key', secretAccessKey: 'secret' }
      const settings = { url, endpoint, credentials, ...(ca !== undefined && { ca }) }
      const store = await openStore(settings, { clock: systemClock, signal: wait.signal })
      try {
        await store.put('one', [Buffer.from('x')], wait)
      } finally {
        await store.close()
      }
    }
    try {
      await put(ours.certificate)
      for (const ca of [undefined, theirs.certificate])
        await assert.rejects(put(ca), (error: HostletError) => {
          assert.match(error.message, /certificate that is not trusted\. Give its authority as "ca"/)
          return error.code === 'E_AUTH'
        })
    } finally {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  })
})
