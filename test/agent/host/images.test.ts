// Base images: fetched over HTTPS or from a file, checked, stored once, found again, and never half.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { ImageSource } from '../../../src/agent/host/image-source.ts'
import { Images } from '../../../src/agent/host/images.ts'
import { MemoryHypervisor } from '../../../src/agent/host/memory-hypervisor.ts'
import { baseVolumeName } from '../../../src/agent/host/names.ts'
import { type ErrorCode, HostletError } from '../../../src/errors.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import type { ImageReference } from '../../../src/protocol/vm.ts'
import { startImageServer } from './image-server.ts'

const run = promisify(execFile)
const content = Buffer.alloc(256 * 1024, 'image content ')
const sha256 = digest(content)
const wait = () => ({ signal: AbortSignal.timeout(30_000) })

describe('images over HTTPS', () => {
  it('are fetched with a private CA, through redirects, once for all who ask', async () => {
    await using setup = await makeSetup((request, response) => {
      if (request.url === '/moved') return response.writeHead(302, { location: '/image' }).end()
      response.end(content)
    })
    const image = setup.image('/moved')
    const stored = await Promise.all([1, 2, 3].map(() => setup.images.ensure(image, wait())))
    assert.deepEqual(stored.map(({ cached }) => cached).sort(), [false, true, true])
    assert.deepEqual(setup.requests, ['/moved', '/image'])
    assert.deepEqual(await setup.left(), [])
  })

  it('tell how far they are', async () => {
    await using setup = await makeSetup((_request, response) => {
      response.writeHead(200, { 'content-length': content.length }).end(content)
    })
    const ratios: number[] = []
    const progress = ({ ratio }: { ratio?: number }) => void (ratio !== undefined && ratios.push(ratio))
    await setup.images.ensure(setup.image('/image'), { ...wait(), progress })
    assert.ok(ratios.length > 1)
    assert.deepEqual(
      ratios,
      ratios.toSorted((a, b) => a - b)
    )
    assert.equal(ratios.at(-1), 1)
  })

  const refused: [string, ErrorCode, RequestListener][] = [
    ['a missing image', 'E_NOT_FOUND', (_request, response) => response.writeHead(404).end()],
    ['a login', 'E_AUTH', (_request, response) => response.writeHead(403).end()],
    ['a broken server', 'E_UNAVAILABLE', (_request, response) => response.writeHead(503).end()],
    ['another digest', 'E_CORRUPT', (_request, response) => response.end('something else')],
    [
      'an image that is cut off',
      'E_UNAVAILABLE',
      (_request, response) => {
        response.writeHead(200, { 'content-length': content.length }).write(content.subarray(0, 100_000))
        setImmediate(() => response.destroy())
      }
    ],
    [
      'a stream that is cut off',
      'E_UNAVAILABLE',
      (_request, response) => {
        response.write(content.subarray(0, 100_000))
        setImmediate(() => response.destroy())
      }
    ],
    [
      'a redirect without end',
      'E_UNAVAILABLE',
      (_request, response) => response.writeHead(302, { location: '/again' }).end()
    ],
    [
      'a redirect to a file of the host',
      'E_UNAVAILABLE',
      (_request, response) => response.writeHead(302, { location: 'file:///etc/passwd' }).end()
    ],
    [
      'more bytes than the host keeps',
      'E_CAPACITY',
      (_request, response) => response.writeHead(200, { 'content-length': 10 ** 12 }).end()
    ],
    [
      'more bytes than the host keeps, unannounced',
      'E_CAPACITY',
      (_request, response) => {
        const more = () => {
          while (!response.destroyed && response.write(content));
        }
        response.on('drain', more)
        more()
      }
    ]
  ]
  for (const [what, code, answer] of refused) {
    it(`are refused on ${what}, and nothing is left`, async () => {
      await using setup = await makeSetup(answer)
      await rejectsWith(code, setup.images.ensure(setup.image('/image'), wait()))
      assert.deepEqual(await setup.left(), [])
      assert.deepEqual(await setup.hypervisor.listVolumes(wait()), [])
    })
  }

  it('are not fetched without TLS, wherever the server redirects to', async () => {
    let asked = 0
    const plain = createServer((_request, response) => {
      asked++
      response.end(content)
    })
    await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve))
    const location = `http://127.0.0.1:${(plain.address() as AddressInfo).port}/image`
    await using setup = await makeSetup((_request, response) => response.writeHead(302, { location }).end())
    await rejectsWith('E_UNAVAILABLE', setup.images.ensure(setup.image('/image'), wait()))
    assert.equal(asked, 0)
    await new Promise((resolve) => plain.close(resolve))
  })

  it('are refused from a server that no CA vouches for, or that nobody runs', async () => {
    await using setup = await makeSetup((_request, response) => response.end(content), { trusted: false })
    const error = await rejectsWith('E_UNAVAILABLE', setup.images.ensure(setup.image('/image'), wait()))
    assert.match(error.message, /certificate .* images\.ca/)
    const nobody = { ...setup.image('/image'), url: 'https://localhost:1/image' }
    await rejectsWith('E_UNAVAILABLE', setup.images.ensure(nobody, wait()))
    assert.deepEqual(setup.requests, [])
  })

  it('are refused with a password in the address, which is not repeated', async () => {
    await using setup = await makeSetup((_request, response) => response.end(content))
    const image = { ...setup.image('/image'), url: 'https://user:hunter2@localhost/image' }
    const error = await rejectsWith('E_BAD_REQUEST', setup.images.ensure(image, wait()))
    assert.doesNotMatch(error.message, /hunter2/)
  })

  it('keep the secrets of a signed address to themselves', async () => {
    await using setup = await makeSetup((_request, response) => response.writeHead(404).end())
    const error = await rejectsWith(
      'E_NOT_FOUND',
      setup.images.ensure(setup.image('/image?signature=hunter2'), wait())
    )
    assert.doesNotMatch(error.message, /hunter2/)
  })

  it('end with the reason of the one who gives up, and nothing is left', async () => {
    await using setup = await makeSetup((_request, response) => {
      response.writeHead(200, { 'content-length': content.length }).write(content.subarray(0, 1000))
      stop.abort(new HostletError('E_CANCELLED', 'given up'))
    })
    const stop = new AbortController()
    await rejectsWith('E_CANCELLED', setup.images.ensure(setup.image('/image'), { signal: stop.signal }))
    assert.deepEqual(await setup.left(), [])
  })
})

describe('images in the pool', () => {
  it('are hashed again after a host boot, and taken when they are whole', async () => {
    await using setup = await makeSetup((_request, response) => response.end(content))
    await setup.images.ensure(setup.image('/image'), wait())
    await setup.images.ensure(setup.image('/image'), wait())
    assert.equal(setup.reads(), 0, 'known of this boot')
    const after = await setup.restarted('boot-2').ensure(setup.image('/image'), wait())
    assert.equal(after.cached, true)
    assert.equal(setup.reads(), 1)
    assert.equal(setup.requests.length, 1)
  })

  it('are hashed again when the state directory was lost', async () => {
    await using setup = await makeSetup((_request, response) => response.end(content))
    await setup.images.ensure(setup.image('/image'), wait())
    await rm(setup.directory, { recursive: true })
    await setup.restarted('boot-1').ensure(setup.image('/image'), wait())
    assert.equal(setup.reads(), 1)
    assert.equal(setup.requests.length, 1)
  })

  it('are not taken for a file address that this host does not allow', async () => {
    await using setup = await makeSetup((_request, response) => response.end(content))
    await setup.images.ensure(setup.image('/image'), wait())
    const elsewhere = { ...setup.image('/image'), url: 'file:///etc/passwd' }
    await rejectsWith('E_AUTH', setup.images.ensure(elsewhere, wait()))
  })

  it('are fetched anew when a crash left half of one', async () => {
    await using setup = await makeSetup((_request, response) => response.end(content))
    setup.hypervisor.spoilVolume(baseVolumeName(setup.image('/')), content.subarray(0, 1000))
    const stored = await setup.images.ensure(setup.image('/image'), wait())
    assert.equal(stored.cached, false)
    const bytes = await buffer(await setup.hypervisor.readVolume(stored.volume, wait()))
    assert.ok(bytes.equals(content))
  })

  it('make room for a new one: the longest unused goes, one that a VM uses stays', async () => {
    let served = content
    await using setup = await makeSetup((_request, response) => response.end(served), {
      cacheBytesMax: content.length * 2 + 1000
    })
    const versions = ['a', 'b', 'c', 'd'].map((letter) => Buffer.alloc(content.length, letter))
    const ensure = async (index: number) => {
      served = versions[index] ?? content
      const image = { ...setup.image('/image'), sha256: digest(served) }
      setup.time += 1_000
      await setup.images.ensure(image, wait())
      return image
    }
    const first = await ensure(0)
    const second = await ensure(1)
    await ensure(0)
    const third = await ensure(2)
    assert.deepEqual(
      await setup.digests(),
      [first.sha256, third.sha256].sort(),
      'the second was unused longest'
    )
    setup.uses(first)
    const fourth = await ensure(3)
    assert.deepEqual(await setup.digests(), [first.sha256, fourth.sha256].sort())
    setup.uses(fourth)
    await rejectsWith('E_CAPACITY', ensure(1))
    assert.deepEqual(await setup.digests(), [first.sha256, fourth.sha256].sort())
    assert.notEqual(second.sha256, first.sha256)
  })

  it('make room in place of one that only restored VMs were made from', async () => {
    let served = content
    await using setup = await makeSetup((_request, response) => response.end(served), {
      cacheBytesMax: content.length + 1000
    })
    const first = setup.image('/image')
    await setup.images.ensure(first, wait())
    setup.uses(first, { rootStandsAlone: true })
    served = Buffer.alloc(content.length, 'b')
    const second = { ...setup.image('/image'), sha256: digest(served) }
    await setup.images.ensure(second, wait())
    assert.deepEqual(await setup.digests(), [second.sha256])
  })
})

const root = process.getuid?.() === 0
describe('a full disk', { skip: root ? false : 'mounting a small disk takes root' }, () => {
  it('ends a download with E_CAPACITY, announced or not, and nothing is left', async () => {
    for (const announced of [true, false]) {
      await using setup = await makeSetup((_request, response) => {
        if (announced) response.setHeader('content-length', content.length)
        response.end(content)
      })
      await mkdir(setup.directory, { recursive: true })
      await run('mount', ['-t', 'tmpfs', '-o', 'size=128k', 'tmpfs', setup.directory])
      try {
        await rejectsWith('E_CAPACITY', setup.images.ensure(setup.image('/image'), wait()))
        assert.deepEqual(await setup.left(), [])
      } finally {
        await run('umount', [setup.directory])
      }
    }
  })
})

interface SetupOptions {
  readonly trusted?: boolean
  readonly cacheBytesMax?: number
}

async function makeSetup(
  answer: RequestListener,
  { trusted = true, cacheBytesMax = 1024 ** 2 }: SetupOptions = {}
) {
  const base = await mkdtemp(join(tmpdir(), 'hostlet-images-'))
  const directory = join(base, 'images')
  const server = await startImageServer(base, answer)
  const hypervisor = new MemoryHypervisor({ clock: systemClock })
  hypervisor.open()
  const source = new ImageSource({ allowFileUrls: [], ...(trusted && { ca: server.caPath }) })
  const used: { image: ImageReference; placement: { rootStandsAlone?: true } }[] = []
  const setup = {
    hypervisor,
    directory,
    requests: server.requests,
    time: 0,
    image: (path: string): ImageReference => ({ url: `${server.url}${path}`, sha256, format: 'raw' }),
    reads: () => hypervisor.calls.filter((call) => call.startsWith('readVolume')).length,
    left: async () => (await readdir(directory).catch(() => [])).filter((name) => name !== 'images.json'),
    digests: async () =>
      (await hypervisor.listVolumes(wait()))
        .map(({ name }) => name.slice('base-'.length, -'.raw.img'.length))
        .sort(),
    /** A VM of the image; restored, it needs no base any more. */
    uses: (image: ImageReference, placement: { rootStandsAlone?: true } = {}) =>
      void used.push({ image, placement }),
    restarted: (bootId: string) => imagesOf(bootId),
    images: imagesOf('boot-1'),
    [Symbol.asyncDispose]: async () => {
      await source.close()
      await server[Symbol.asyncDispose]()
      await rm(base, { recursive: true, force: true })
    }
  }
  return setup

  function imagesOf(bootId: string): Images {
    const listVms = async () =>
      used.map(({ image, placement }) => ({ specification: { image }, placement })) as never

    const bound = new Proxy(hypervisor, {
      get: (_target, name) => {
        if (name === 'listVms') return listVms
        const value = Reflect.get(hypervisor, name, hypervisor)
        return typeof value === 'function' ? value.bind(hypervisor) : value
      }
    })
    const clock = { now: () => setup.time }
    return new Images({
      hypervisor: bound,
      source,
      directory,
      cacheBytesMax,
      bootId,
      clock,
      log: silentLogger
    })
  }
}

function digest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

async function rejectsWith(code: ErrorCode, promise: Promise<unknown>): Promise<HostletError> {
  const error = await promise.then(
    () => assert.fail(`expected ${code}`),
    (thrown: unknown) => thrown
  )
  assert.ok(error instanceof HostletError, String(error))
  assert.equal(error.code, code, error.message)
  return error
}
