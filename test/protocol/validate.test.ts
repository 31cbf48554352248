// Messages and names: what is let in, what is refused, and how the refusal reads.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { HostletError } from '../../src/errors.ts'
import { CommandClaims } from '../../src/protocol/command.ts'
import { messageBytesMax } from '../../src/protocol/messages.ts'
import { VmName } from '../../src/protocol/names.ts'
import { compile, parseAgentMessage, parseSchedulerMessage } from '../../src/protocol/validate.ts'
import { ImageReference, Readiness, Seed, VmSpecification } from '../../src/protocol/vm.ts'

const id = '018f3c9e-7b1a-7def-8000-0123456789ab'
const sha256 = 'a'.repeat(64)
const specification = {
  name: 'web-1',
  uuid: id,
  profile: 'starter',
  image: { url: 'https://images.example/debian.qcow2', sha256, format: 'qcow2' },
  cpus: 1,
  memoryBytes: 256 * 1024 ** 2,
  rootDiskBytes: 1024 ** 3
}

/** Strings that people try: paths, markup, shells, controls, look-alikes. */
const hostileStrings = [
  '../../etc/passwd',
  '/etc/passwd',
  'web/1',
  '..',
  '.',
  '',
  'web 1',
  'web\n1',
  'web\u00001',
  '<name>',
  'a&amp;b',
  "a' or '1'='1",
  'a"b',
  ']]>',
  '$(reboot)',
  '-rf',
  'web-',
  'Web',
  'wéb',
  'z'.repeat(64),
  '__proto__/x'
]

function refusal(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    assert.ok(error instanceof HostletError)
    assert.equal(error.code, 'E_BAD_REQUEST')
    return error.message
  }
  return assert.fail('was let in')
}

describe('messages', () => {
  it('lets a good message of each side in, typed', () => {
    const ack = parseAgentMessage(JSON.stringify({ type: 'ack', command: id, repeated: false }))
    assert.deepEqual(ack, { type: 'ack', command: id, repeated: false })
    const command = parseSchedulerMessage(JSON.stringify({ type: 'command', jws: 'a.b.c' }))
    assert.equal(command.type, 'command')
  })

  it('names what is wrong, one fault at a time', () => {
    const faults: [string, RegExp][] = [
      ['{', /not JSON/],
      ['[]', /object/],
      ['{}', /'type'/],
      ['{"type":"reboot"}', /unknown or missing "type"/],
      [`{"type":"ack","command":"x","repeated":true}`, /command: must be a UUID/],
      [`{"type":"ack","command":"${id}"}`, /repeated/],
      [`{"type":"ack","command":"${id}","repeated":true,"extra":1}`, /unknown key "extra"/]
    ]
    for (const [text, expected] of faults)
      assert.match(
        refusal(() => parseAgentMessage(text)),
        expected
      )
  })

  it('refuses a message of the other side', () => {
    assert.match(
      refusal(() => parseAgentMessage('{"type":"command","jws":"a"}')),
      /type/
    )
    assert.match(
      refusal(() => parseSchedulerMessage(`{"type":"ack","command":"${id}","repeated":true}`)),
      /type/
    )
  })

  it('refuses a message longer than the bound before parsing it', () => {
    assert.match(
      refusal(() => parseAgentMessage(' '.repeat(messageBytesMax + 1))),
      /longer than/
    )
  })

  it('never repeats a refused value, which may be a secret', () => {
    const message = refusal(() => parseSchedulerMessage('{"type":"command","jws":{"token":"s3cret-value"}}'))
    assert.doesNotMatch(message, /s3cret/)
  })

  it('throws nothing but E_BAD_REQUEST whatever comes in', () => {
    const property = fc.property(
      fc.oneof(
        fc.string(),
        fc.json(),
        fc.jsonValue().map((value) => JSON.stringify(value))
      ),
      (text) => {
        for (const parse of [parseAgentMessage, parseSchedulerMessage]) {
          try {
            const message = parse(text)
            assert.equal(typeof message.type, 'string')
          } catch (error) {
            assert.ok(error instanceof HostletError && error.code === 'E_BAD_REQUEST')
          }
        }
      }
    )
    fc.assert(property, { numRuns: 2_000 })
  })
})

describe('names', () => {
  const name = compile(VmName, 'name')

  it('takes DNS labels', () => {
    for (const good of ['a', 'web-1', 'x'.repeat(63), 'db2']) assert.equal(name(good), good)
  })

  it('refuses path tricks, markup, controls and look-alikes', () => {
    for (const hostile of hostileStrings) refusal(() => name(hostile))
  })
})

describe('VM specification', () => {
  const check = compile(VmSpecification, 'specification')

  it('says bounds of sizes in units that people use', () => {
    const check = compile(VmSpecification, 'x')
    assert.throws(
      () => check({ ...specification, memoryBytes: 10 }),
      /memoryBytes: must be >= 67108864 \(64 MiB\)/
    )
    assert.throws(() => check({ ...specification, cpus: 0 }), /cpus: must be >= 1$/)
  })

  it('takes the smallest and a full one', () => {
    assert.equal(check(specification), specification)
    const full = {
      ...specification,
      cpuLimitPercent: 150,
      dataDiskBytes: 1024 ** 3,
      seed: {
        hostname: 'web-1',
        sshAuthorizedKeys: ['ssh-ed25519 AAAAC3Nz operator@desk'],
        userData: '#cloud-config\n'
      },
      ready: { tcpPort: 22, http: { port: 80, path: '/healthz?full=1' }, timeoutMs: 60_000 },
      consoleLog: true
    }
    assert.equal(check(full), full)
  })

  it('refuses hostile strings in every string field', () => {
    for (const hostile of hostileStrings) {
      refusal(() => check({ ...specification, name: hostile }))
      refusal(() => check({ ...specification, uuid: hostile }))
      refusal(() => check({ ...specification, profile: `${hostile}/` }))
      refusal(() => check({ ...specification, image: { ...specification.image, url: hostile } }))
      refusal(() => check({ ...specification, image: { ...specification.image, sha256: hostile } }))
      refusal(() => check({ ...specification, seed: { hostname: hostile } }))
      refusal(() =>
        check({ ...specification, ready: { http: { port: 80, path: hostile.replace(/^\//, '') } } })
      )
    }
  })

  it('refuses sizes out of bounds and keys it does not know', () => {
    refusal(() => check({ ...specification, cpus: 0 }))
    refusal(() => check({ ...specification, memoryBytes: 1 }))
    refusal(() => check({ ...specification, memoryBytes: 256 * 1024 ** 2 + 1 }))
    refusal(() => check({ ...specification, rootDiskBytes: Number.NaN }))
    assert.match(
      refusal(() => check({ ...specification, devices: [] })),
      /unknown key "devices"/
    )
  })

  it('refuses image addresses of other schemes and with markup', () => {
    const image = compile(ImageReference, 'image')
    for (const url of [
      'http://a/b',
      'ftp://a',
      'javascript:alert(1)',
      'https://a/<b>',
      'https://a/ b',
      'file:relative'
    ])
      refusal(() => image({ ...specification.image, url }))
  })

  it('refuses SSH keys that would add lines to the seed', () => {
    const seed = compile(Seed, 'seed')
    refusal(() => seed({ sshAuthorizedKeys: ['ssh-ed25519 AAAA\nruncmd: [reboot]'] }))
    refusal(() => seed({ sshAuthorizedKeys: ['ssh-ed25519 AAAA comment\nruncmd: [reboot]'] }))
  })

  it('refuses probe paths that would smuggle a header', () => {
    const ready = compile(Readiness, 'ready')
    refusal(() => ready({ http: { port: 80, path: '/a\r\nHost: b' } }))
  })
})

describe('command claims', () => {
  it('keeps unknown keys out of the signed envelope while leaving arguments to the verb', () => {
    const check = compile(CommandClaims, 'command')
    const claims = {
      id,
      verb: 'vm.start',
      audience: 'kvm-1',
      issuedAt: 1,
      expiresAt: 2,
      arguments: { anything: [1] }
    }
    assert.equal(check(claims), claims)
    assert.match(
      refusal(() => check({ ...claims, admin: true })),
      /unknown key "admin"/
    )
    refusal(() => check({ ...claims, verb: 'vm.start; reboot' }))
  })
})
