// vm.provision on the hypervisor in memory: what it makes, what it refuses, and that a failure or a crash leaves nothing.

import assert from 'node:assert/strict'
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { Hypervisor } from '../../../src/agent/host/hypervisor.ts'
import { createPrivateKey, publicHalf } from '../../../src/agent/keys/jwk.ts'
import { profileOf } from '../../../src/agent/profiles.ts'
import type { ErrorCode } from '../../../src/errors.ts'
import { HostletError } from '../../../src/errors.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import type { SecretsKey, VmSpecification } from '../../../src/protocol/vm.ts'
import { withUserData } from '../../support/sealed-seed.ts'
import { type Bench, begin, carry, type MemoryJournal, makeBench, succeed } from './bench.ts'
import { interposed as gated } from './interposed.ts'

const wait = () => ({ signal: AbortSignal.timeout(30_000) })

describe('vm.provision', () => {
  it('makes a VM that runs, with its disks, address and nothing of its seed left', async () => {
    await using bench = await makeBench()
    const key = await keyOf(bench)
    const asked = bench.specification({ dataDiskBytes: 1024 ** 2, ready: { tcpPort: 22 } })
    const specification = await withUserData(asked, '#cloud-config\npassword: hunter2\n', key)
    const value = await succeed(bench.host, 'vm.provision', { specification })
    const [record] = await bench.hypervisor.listVms(wait())
    assert.equal(record?.state, 'running')
    assert.equal(record?.wanted, 'running')
    assert.equal(value.address, record?.placement.address)
    assert.equal((value.vm as { state: string }).state, 'running')
    assert.deepEqual(await bench.leftovers(), [
      'vm web-1',
      'volume web-1.0b54e6f2.root.qcow2',
      'volume web-1.0b54e6f2.data.qcow2',
      `reservation ${record?.placement.address}`
    ])
    assert.ok(bench.hypervisor.calls.includes('ejectSeed web-1'))
  })

  it('keeps user data out of what libvirt keeps', async () => {
    await using bench = await makeBench()
    const asked = bench.specification({ seed: { hostname: 'kept' } })
    const key = await keyOf(bench)
    const specification = await withUserData(asked, 'password: hunter2', key)
    await succeed(bench.host, 'vm.provision', { specification })
    const [record] = await bench.hypervisor.listVms(wait())
    assert.deepEqual(record?.specification.seed, { hostname: 'kept', hardened: false })
  })

  it('gives VMs that are made at the same time users, addresses and MACs of their own', async () => {
    await using bench = await makeBench()
    const made = Array.from({ length: 8 }, (_, index) =>
      bench.specification({ name: `vm-${index}`, uuid: `0b54e6f2-6b53-4a3e-9d1c-00000000000${index}` })
    )
    await Promise.all(made.map((specification) => succeed(bench.host, 'vm.provision', { specification })))
    const placements = (await bench.hypervisor.listVms(wait())).map((vm) => vm.placement)
    for (const key of ['uid', 'address', 'macAddress', 'rootVolume'] as const)
      assert.equal(new Set(placements.map((placement) => placement[key])).size, made.length, key)
    const uploads = bench.hypervisor.calls.filter((call) => call.startsWith('uploadBase'))
    assert.equal(uploads.length, 1, 'one image is fetched once')
  })

  it('gives a new VM an address while the lease of a VM that is gone still lasts', async () => {
    await using bench = await makeBench()
    const first = bench.specification()
    await succeed(bench.host, 'vm.provision', { specification: first })
    await succeed(bench.host, 'vm.teardown', { vm: first.name })
    const second = bench.specification({ name: 'web-2', uuid: '11111111-6b53-4a3e-9d1c-0123456789ab' })
    await succeed(bench.host, 'vm.provision', { specification: second })
    assert.equal((await bench.hypervisor.listVms(wait()))[0]?.state, 'running')
  })

  it('refuses more VMs than there are users, and leaves nothing of the one too many', async () => {
    await using bench = await makeBench({ config: { vmUids: { first: 1_900_000_000, count: 1 } } })
    await succeed(bench.host, 'vm.provision', { specification: bench.specification() })
    const before = await bench.leftovers()
    const specification = bench.specification({ name: 'web-2', uuid: '11111111-6b53-4a3e-9d1c-0123456789ab' })
    await failsWith('E_CAPACITY', bench, specification)
    assert.deepEqual(await bench.leftovers(), before)
  })
})

describe('vm.provision refuses', () => {
  const hostile = [
    '<vm>',
    'a&b',
    '"quoted"',
    "it's",
    ']]>',
    '../../etc/passwd',
    'a/b',
    '..',
    '',
    'UPPER',
    'a b',
    'a\u0000b',
    'a\nb',
    '-a',
    'ä',
    'A'.repeat(64)
  ]

  it('user data that it cannot open, before anything is recorded or made', async () => {
    await using bench = await makeBench()
    const asked = bench.specification()
    const key = await keyOf(bench)
    const other = await withUserData(
      bench.specification({ uuid: '11111111-6b53-4a3e-9d1c-0123456789ab' }),
      'password: hunter2',
      key
    )
    const cases = [
      ['E_BAD_REQUEST', { ...asked, seed: { userData: 'password: hunter2' } }],
      ['E_BAD_REQUEST', { ...asked, seed: other.seed }],
      ['E_STALE', await withUserData(asked, 'password: hunter2', publicHalf(await createPrivateKey()))]
    ] as const
    for (const [code, specification] of cases) {
      const { outcome, journal, steps } = begin(bench.host, 'vm.provision', { specification })
      const end = await outcome
      assert.equal(end.outcome === 'failed' && end.error.code, code)
      assert.ok(!JSON.stringify(end).includes('hunter2'))
      assert.deepEqual([journal.entry.attempts, steps], [0, []])
    }
    assert.deepEqual(await bench.leftovers(), [])
  })

  it('every name that is not a plain one', async () => {
    await using bench = await makeBench()
    for (const name of hostile) await failsWith('E_BAD_REQUEST', bench, bench.specification({ name }), name)
    assert.deepEqual(await bench.leftovers(), [])
    assert.deepEqual(
      bench.hypervisor.calls.filter((call) => call.startsWith('define')),
      []
    )
  })

  it('metacharacters and path tricks in every other string', async () => {
    await using bench = await makeBench()
    const { image } = bench
    for (const text of hostile) {
      await failsWith('E_BAD_REQUEST', bench, bench.specification({ uuid: text }), `uuid ${text}`)
      await failsWith('E_BAD_REQUEST', bench, bench.specification({ profile: text }), `profile ${text}`)
      await failsWith(
        'E_BAD_REQUEST',
        bench,
        bench.specification({ image: { ...image, sha256: text } }),
        text
      )
      await failsWith(
        'E_BAD_REQUEST',
        bench,
        bench.specification({ image: { ...image, format: text as 'raw' } }),
        text
      )
      await failsWith('E_BAD_REQUEST', bench, bench.specification({ image: { ...image, url: text } }), text)
      await failsWith('E_BAD_REQUEST', bench, bench.specification({ seed: { hostname: text } }), text)
    }
    for (const key of [
      '',
      'ssh-rsa',
      'ssh-rsa AAAA\nroot: x',
      'ssh-rsa AAAA\u0000',
      'ssh-rsa A"A',
      '<b> AAAA'
    ])
      await failsWith(
        'E_BAD_REQUEST',
        bench,
        bench.specification({ seed: { sshAuthorizedKeys: [key] } }),
        key
      )
    assert.deepEqual(await bench.leftovers(), [])
  })

  it('keys that it does not know', async () => {
    await using bench = await makeBench()
    const specification = { ...bench.specification(), nested: { virtualisation: true } }
    await failsWith('E_BAD_REQUEST', bench, specification)
  })

  it('a profile that the host does not have', async () => {
    await using bench = await makeBench()
    for (const profile of ['premium', 'constructor', 'tostring'])
      await failsWith('E_BAD_REQUEST', bench, bench.specification({ profile }), profile)
  })

  it('a name that exists: the same VM, another one, or a domain of somebody else', async () => {
    await using bench = await makeBench()
    await succeed(bench.host, 'vm.provision', { specification: bench.specification() })
    const before = await bench.leftovers()
    await failsWith('E_CONFLICT', bench, bench.specification())
    await failsWith(
      'E_CONFLICT',
      bench,
      bench.specification({ uuid: '11111111-6b53-4a3e-9d1c-0123456789ab' })
    )
    bench.hypervisor.foreign.push({
      name: 'theirs',
      uuid: '22222222-6b53-4a3e-9d1c-0123456789ab',
      state: 'running'
    })
    await failsWith(
      'E_CONFLICT',
      bench,
      bench.specification({ name: 'theirs', uuid: '11111111-6b53-4a3e-9d1c-0123456789ab' })
    )
    assert.deepEqual(await bench.leftovers(), before)
    assert.equal((await bench.hypervisor.listVms(wait()))[0]?.state, 'running')
  })

  it('the UUID of a domain of somebody else, before anything is recorded or made', async () => {
    const own = { network: 'hl-o', bridge: 'hl-o-', subnet: '10.91.0.0/24' }
    await using bench = await makeBench({
      config: { profiles: { premium: profileOf({ ...own, encryption: false, ownBridge: true }) } }
    })
    const specification = bench.specification({ profile: 'premium' })
    const theirs = { name: 'theirs', uuid: specification.uuid, state: 'running' } as const
    bench.hypervisor.foreign.push(theirs)
    const message = await failsWith('E_CONFLICT', bench, specification)
    assert.match(message, /domain theirs .*never touched.*another UUID/)
    assert.deepEqual(await bench.leftovers(), [])
    assert.deepEqual(await bench.hypervisor.listNetworks(wait()), [])
    assert.deepEqual(bench.hypervisor.foreign, [theirs])
  })

  it('the same VM asked for twice before the first is made', async () => {
    await using bench = await makeBench()
    const specification = bench.specification()
    const outcomes = await Promise.all([
      carry(bench.host, 'vm.provision', { specification }),
      carry(bench.host, 'vm.provision', { specification })
    ])
    const failed = outcomes.filter((outcome) => outcome.outcome === 'failed')
    assert.equal(failed.length, 1)
    assert.equal(failed[0]?.error.code, 'E_CONFLICT')
    assert.equal((await bench.hypervisor.listVms(wait()))[0]?.state, 'running')
  })
})

describe('vm.provision leaves nothing behind after', () => {
  it('a wrong digest', async () => {
    await using bench = await makeBench()
    const image = { ...bench.image, sha256: 'a'.repeat(64) }
    const message = await failsWith('E_CORRUPT', bench, bench.specification({ image }))
    assert.match(message, new RegExp(bench.image.sha256), 'says what the digest is')
    assert.deepEqual(await bench.leftovers(), [])
    assert.deepEqual(await bench.hypervisor.listVolumes(wait()), [])
  })

  it('an image that is not there, not a file, or outside of what is allowed', async () => {
    await using bench = await makeBench()
    const images = join(bench.directory, 'images')
    const secret = join(bench.directory, 'secret.img')
    await writeFile(secret, await readFile(bench.imagePath))
    await mkdir(join(images, 'directory'))
    await symlink(secret, join(images, 'link.img'))
    const cases: [ErrorCode, string][] = [
      ['E_NOT_FOUND', `file://${images}/none.img`],
      ['E_BAD_REQUEST', `file://${images}/directory`],
      ['E_AUTH', `file://${images}`],
      ['E_AUTH', `file://${secret}`],
      ['E_AUTH', `file://${images}/../secret.img`],
      ['E_AUTH', `file://${images}/%2e%2e/secret.img`],
      ['E_AUTH', `file://${images}/link.img`],
      ['E_AUTH', 'file:///etc/passwd'],
      ['E_AUTH', 'file:///dev/zero'],
      ['E_BAD_REQUEST', `file://otherhost${images}/small.img`],
      ['E_BAD_REQUEST', `file://${images}/a%2fb.img`]
    ]
    for (const [code, url] of cases)
      await failsWith(code, bench, bench.specification({ image: { ...bench.image, url } }), url)
    assert.deepEqual(await bench.leftovers(), [])
    assert.deepEqual(await bench.hypervisor.listVolumes(wait()), [])
  })

  it('an image that is larger than the root disk', async () => {
    await using bench = await makeBench()
    await writeFile(bench.imagePath, Buffer.alloc(2 * 1024 ** 2))
    const sha256 = '5647f05ec18958947d32874eeb788fa396a05d0bab7c1b71f112ceb7e9b31eee'
    await failsWith('E_BAD_REQUEST', bench, bench.specification({ image: { ...bench.image, sha256 } }))
    assert.deepEqual(await bench.leftovers(), [])
  })

  it('a pool that is full', async () => {
    await using bench = await makeBench({ poolBytes: 100 * 1024 })
    await failsWith('E_CAPACITY', bench, bench.specification())
    assert.deepEqual(await bench.leftovers(), [])
  })

  it('a host without the memory for it, told before anything is begun', async () => {
    await using bench = await makeBench({ availableMemoryBytes: () => 255 * 1024 ** 2 })
    const message = await failsWith('E_CAPACITY', bench, bench.specification())
    assert.match(message, /255 MiB of memory left, VM web-1 needs 256 MiB/)
    assert.ok(!bench.hypervisor.calls.some((call) => call.startsWith('define')))
  })

  it('a guest that never gets ready, or powers itself off', async () => {
    await using bench = await makeBench()
    bench.hypervisor.guests.takesLease = false
    await failsWith('E_UNAVAILABLE', bench, bench.specification({ ready: { timeoutMs: 50 } }))
    assert.deepEqual(await bench.leftovers(), [])
    bench.hypervisor.onEvent(({ kind, name }) => {
      if (kind === 'started') bench.hypervisor.shutDownGuest(name)
    })
    await failsWith('E_CONFLICT', bench, bench.specification())
    assert.deepEqual(await bench.leftovers(), [])
  })

  it('an error of any single call to libvirt', async () => {
    // But for the last: all is done by then, and it is only looked at for the answer.
    const calls = (await countCalls()) - 1
    for (let at = 1; at <= calls; at++) {
      await using bench = await makeBench()
      const hypervisor = interposed(bench.hypervisor, at, async (call) => {
        if (at % 2 === 0) await call()
        throw new HostletError('E_LIBVIRT', `call ${at} failed`)
      })
      const outcome = await carry(bench.restarted(hypervisor), 'vm.provision', { specification: full(bench) })
      assert.equal(outcome.outcome, 'failed', `call ${at}`)
      assert.deepEqual(await bench.leftovers(), [], `after an error of call ${at}`)
    }
  })
})

describe('vm.provision after a crash', () => {
  for (const when of ['before', 'after'] as const) {
    it(`ends with the VM running, wherever the agent was killed (${when} the effect of a call)`, async () => {
      const calls = await countCalls()
      assert.ok(calls > 20)
      for (let at = 1; at <= calls; at++) await crashAndResume(at, when)
    })
  }

  it('writes the seed again that a boot of the host took, from what the journal has of the user data', async () => {
    await using bench = await makeBench()
    const key = await keyOf(bench)
    const specification = await withUserData(bench.specification(), 'password: hunter2', key)
    const seed = join(bench.directory, 'run', 'seeds', `${specification.uuid}.iso`)
    const killed = Promise.withResolvers<void>()
    const dying = new Proxy(bench.hypervisor, {
      get: (target, name) => {
        const value = Reflect.get(target, name, target)
        if (name !== 'start') return typeof value === 'function' ? value.bind(target) : value
        return () => {
          killed.resolve()
          return new Promise(() => undefined)
        }
      }
    })
    const mortal = bench.restarted(dying)
    await mortal.prepare()
    const first = begin(mortal, 'vm.provision', { specification })
    await Promise.race([killed.promise, first.outcome])
    await rm(seed)
    let content = ''
    const from = { from: first.journal }
    const next = bench.restarted()
    await next.prepare()
    using _gate = bench.hypervisor.addStartGate(async () => {
      content = await readFile(seed, 'latin1')
    })
    const { outcome } = await begin(next, 'vm.provision', { specification }, from).outcome
    assert.equal(outcome, 'done')
    assert.ok(content.includes('password: hunter2'))
    assert.ok(!JSON.stringify(first.journal.entry).includes('hunter2'))
  })

  it('is done where the VM was made before the agent was killed, and the first look at it gets no answer', async () => {
    await using bench = await makeBench()
    const made = Promise.withResolvers<void>()
    const dying = new Proxy(bench.hypervisor, {
      get: (target, name) => {
        const value = Reflect.get(target, name, target)
        if (name !== 'annotate') return typeof value === 'function' ? value.bind(target) : value
        return async (...values: Parameters<typeof target.annotate>) => {
          await target.annotate(...values)
          made.resolve()
          return await new Promise(() => undefined)
        }
      }
    })
    const specification = full(bench)
    const first = begin(bench.restarted(dying), 'vm.provision', { specification })
    await Promise.race([made.promise, first.outcome])
    bench.hypervisor.failNext('findVm', new HostletError('E_TIMEOUT', 'findVm got no answer'))
    const next = begin(bench.restarted(), 'vm.provision', { specification }, { from: first.journal })
    assert.equal((await next.outcome).outcome, 'done')
    assert.equal((await bench.hypervisor.findVm('web-1', wait()))?.state, 'running')
  })

  it('makes a disk anew that a crash left half-made', async () => {
    await using bench = await makeBench()
    bench.hypervisor.spoilVolume('web-1.0b54e6f2.root.qcow2', Buffer.alloc(512))
    await succeed(bench.host, 'vm.provision', { specification: bench.specification() })
    const disk = await bench.hypervisor.findVolume('web-1.0b54e6f2.root.qcow2', wait())
    assert.equal(disk?.capacityBytes, bench.specification().rootDiskBytes)
  })

  it('says of a VM that stands that it does, wherever its undo was killed after it had been announced', async () => {
    const ends = new Set<string>()
    for (let at = 1; ; at++) {
      await using bench = await makeBench()
      const journal = await killedInUndo(bench, at)
      if (journal === undefined) break
      const specification = full(bench)
      const { outcome } = begin(bench.restarted(), 'vm.provision', { specification }, { from: journal })
      const ended = await outcome
      assert.ok(ended.outcome === 'failed')
      const stands = ended.error.details?.undoFailed !== undefined
      assert.deepEqual((await bench.leftovers()).length > 0, stands, `killed at call ${at} of the undo`)
      if (stands) {
        assert.match(ended.error.message, /Not everything could be undone \(take the seed out\): look at/)
        assert.equal((await bench.hypervisor.findVm('web-1', wait()))?.state, 'running')
      }
      ends.add(String(stands))
    }
    assert.deepEqual([...ends].sort(), ['false', 'true'])
  })

  it('undoes what a crash left when the rest then fails', async () => {
    const calls = await countCalls()
    for (let at = 1; at <= calls; at += 3) {
      await using bench = await makeBench()
      const journal = await killedAt(bench, at, 'after')
      if (journal === undefined) continue
      bench.hypervisor.failNext('start', new HostletError('E_LIBVIRT', 'no memory'))
      bench.hypervisor.failNext('ejectSeed', new HostletError('E_LIBVIRT', 'tray locked'))
      const specification = full(bench)
      const { outcome } = await begin(bench.restarted(), 'vm.provision', { specification }, { from: journal })
        .outcome
      if (outcome === 'failed') assert.deepEqual(await bench.leftovers(), [], `killed at call ${at}`)
      else assert.ok((await bench.leftovers()).includes('vm web-1'))
    }
  })
})

/** With everything that a VM can have, so that every step has something to do. */
function full(bench: Bench): VmSpecification {
  return bench.specification({
    dataDiskBytes: 1024 ** 2,
    seed: { hostname: 'web-1' },
    ready: { tcpPort: 22 }
  })
}

async function keyOf({ host }: Bench): Promise<SecretsKey> {
  await host.prepare()
  return host.keys.hostKey.publicKey
}

async function countCalls(): Promise<number> {
  await using bench = await makeBench()
  let calls = 0
  const hypervisor = interposed(bench.hypervisor, Number.POSITIVE_INFINITY, (call) => call(), {
    onCall: () => calls++
  })
  await succeed(bench.restarted(hypervisor), 'vm.provision', { specification: full(bench) })
  return calls
}

async function crashAndResume(at: number, when: 'before' | 'after'): Promise<void> {
  await using bench = await makeBench()
  const journal = await killedAt(bench, at, when)
  if (journal === undefined) return
  const specification = full(bench)
  const outcome = await begin(bench.restarted(), 'vm.provision', { specification }, { from: journal }).outcome
  assert.equal(outcome.outcome, 'done', `killed ${when} call ${at}: ${JSON.stringify(outcome)}`)
  const [record] = await bench.hypervisor.listVms(wait())
  assert.equal(record?.state, 'running')
  assert.deepEqual(await bench.leftovers(), [
    'vm web-1',
    ...['root', 'data'].map((disk) => `volume web-1.0b54e6f2.${disk}.qcow2`),
    `reservation ${record?.placement.address}`
  ])
}

/** Runs a provision whose nth call never comes back. Its journal; undefined when it was killed before it was accepted. */
/** After its announcement, whose answer is lost: at that call from there on. Undefined where there are fewer. */
async function killedInUndo(bench: Bench, at: number): Promise<MemoryJournal | undefined> {
  const killed = Promise.withResolvers<true>()
  let left = Number.POSITIVE_INFINITY
  const hypervisor = gated(bench.hypervisor, async (call) => {
    if (left !== Number.POSITIVE_INFINITY && --left <= 0) {
      killed.resolve(true)
      return await new Promise(() => undefined)
    }
    const result = await call()
    const vm = await bench.hypervisor.findVm('web-1', wait())
    if (left !== Number.POSITIVE_INFINITY || vm?.wanted !== 'running') return result
    left = at
    throw new HostletError('E_LIBVIRT', 'the answer was lost')
  })
  const run = begin(bench.restarted(hypervisor), 'vm.provision', { specification: full(bench) })
  return (await Promise.race([killed.promise, run.outcome])) === true ? run.journal : undefined
}

async function killedAt(bench: Bench, at: number, when: 'before' | 'after') {
  const killed = Promise.withResolvers<void>()
  const never = () => new Promise(() => undefined)
  const hypervisor = interposed(
    bench.hypervisor,
    at,
    async (call) => {
      if (when === 'after') await call()
      killed.resolve()
      return await never()
    },
    // What went on beside the nth call died with it.
    { afterwards: never }
  )
  const run = begin(bench.restarted(hypervisor), 'vm.provision', { specification: full(bench) })
  await Promise.race([killed.promise, run.outcome])
  return run.journal.entry.attempts === 0 ? undefined : run.journal
}

type Interposition = (call: () => Promise<unknown>) => Promise<unknown>

/** The hypervisor with its nth call replaced, and those after it where asked. */
function interposed(
  hypervisor: Hypervisor,
  at: number,
  instead: Interposition,
  { onCall, afterwards = (call) => call() }: { onCall?: () => void; afterwards?: Interposition } = {}
): Hypervisor {
  const notCalls = new Set<PropertyKey>(['open', 'close', 'status', 'onStatus', 'onEvent', 'addStartGate'])
  let calls = 0
  // A start asks its gates, which call too.
  let isWithin = false
  return new Proxy(hypervisor, {
    get: (target, name) => {
      const value = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      if (notCalls.has(name)) return value.bind(target)
      return (...args: unknown[]) => {
        onCall?.()
        const call = () => Reflect.apply(value, target, args) as Promise<unknown>
        const within = async () => {
          isWithin = true
          await call()
          isWithin = false
        }
        if (isWithin) return call()
        if (++calls === at) return instead(within)
        return calls > at ? afterwards(call) : call()
      }
    }
  })
}

async function failsWith(code: ErrorCode, bench: Bench, specification: unknown, about = ''): Promise<string> {
  const started = systemClock.monotonic()
  const outcome = await carry(bench.host, 'vm.provision', { specification })
  assert.equal(outcome.outcome, 'failed', about)
  if (outcome.outcome !== 'failed') return ''
  assert.equal(
    outcome.error.code,
    code,
    `${about}: ${outcome.error.message} (${systemClock.monotonic() - started} ms)`
  )
  return outcome.error.message
}
