// Fuzz of what a host does with commands: nothing that is not signed for it gets further than a refusal with a code.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { commandJwsType } from '../../src/protocol/command.ts'
import { parseAgentMessage } from '../../src/protocol/validate.ts'
import { Fixture } from '../agent/operations/fixture.ts'
import { settle } from '../support/fake-clock.ts'

const runs = 300
const seed = Number(process.env.FUZZ_SEED ?? Date.now() & 0x7fff_ffff)
const options = { numRuns: runs, seed }

describe(`commands out of anything (seed ${seed})`, () => {
  let fixture: Fixture
  before(async () => {
    fixture = await Fixture.create()
  })
  after(() => fixture[Symbol.asyncDispose]())

  /** Exactly one answer, a refusal that fits its schema; nothing done, nothing recorded. */
  async function refused(jws: string): Promise<string> {
    fixture.sent.length = 0
    await fixture.dispatcher.receive(jws)
    await settle()
    assert.deepEqual(
      fixture.sent.map(({ type }) => type),
      ['refusal']
    )
    for (const message of fixture.sent) parseAgentMessage(JSON.stringify(message))
    assert.deepEqual(fixture.host.done, [])
    assert.deepEqual(fixture.journal.unfinished(), [])
    const code = fixture.refusalCode() ?? ''
    assert.notEqual(code, 'E_INTERNAL')
    return code
  }

  it('refuses any text', async () => {
    const text = fc.oneof(fc.string({ unit: 'binary', maxLength: 400 }), fc.base64String({ maxLength: 400 }))
    const dotted = fc.array(text, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('.'))
    await fc.assert(
      fc.asyncProperty(dotted, async (jws) => {
        assert.ok(['E_BAD_REQUEST', 'E_AUTH'].includes(await refused(jws)))
      }),
      options
    )
  })

  it('refuses any header over a payload that was not signed with it', async () => {
    const known = fc.constantFrom(
      'EdDSA',
      'none',
      'HS256',
      'ES256',
      commandJwsType,
      'key-1',
      '',
      'b64',
      'crit'
    )
    const value = fc.oneof(known, fc.jsonValue())
    const header = fc.dictionary(
      fc.constantFrom('alg', 'kid', 'typ', 'crit', 'b64', 'jwk', 'x5c', 'zip'),
      value
    )
    const encode = (thing: unknown) => Buffer.from(JSON.stringify(thing)).toString('base64url')
    await fc.assert(
      fc.asyncProperty(header, fc.uint8Array({ maxLength: 80 }), async (fields, signature) => {
        const tail = Buffer.from(signature).toString('base64url')
        await refused(`${encode(fields)}.${encode(fixture.claims())}.${tail}`)
      }),
      options
    )
  })

  it('refuses a signed command of which one character was changed', async () => {
    const jws = await fixture.signer.sign(fixture.claims())
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.'
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: jws.length - 1 }),
        fc.constantFrom(...alphabet),
        async (at, character) => {
          const changed = jws.slice(0, at) + character + jws.slice(at + 1)
          // The last characters of base64url may hold bits that stand for nothing: the same bytes are the same command.
          fc.pre(!sameBytes(changed, jws))
          await refused(changed)
        }
      ),
      options
    )
  })

  it('refuses signed claims of any shape that is not a command for this host now', async () => {
    const claims = fc.oneof(
      fc.jsonValue(),
      fc.record({
        id: fc.oneof(fc.uuid(), fc.string()),
        verb: fc.oneof(fc.constant('test.change'), fc.string()),
        audience: fc.oneof(fc.constant('host-2'), fc.string()),
        issuedAt: fc.oneof(fc.integer(), fc.double()),
        expiresAt: fc.oneof(fc.integer(), fc.double()),
        arguments: fc.oneof(fc.dictionary(fc.string(), fc.jsonValue()), fc.jsonValue())
      })
    )
    await fc.assert(
      fc.asyncProperty(claims, async (value) => {
        await refused(await fixture.signer.sign(JSON.stringify(value)))
      }),
      options
    )
  })

  it('refuses any arguments that the verb does not declare', async () => {
    const hostile = fc.constantFrom(
      '../etc',
      'a/b',
      '<name/>',
      "'; --",
      'UPPER',
      '-x',
      'a'.repeat(64),
      '__proto__',
      '\u0000'
    )
    const value = fc.oneof(hostile, fc.jsonValue())
    const names = fc.dictionary(
      fc.oneof(fc.constantFrom('vm', 'size', 'force', '__proto__', 'constructor'), fc.string()),
      value
    )
    await fc.assert(
      fc.asyncProperty(names, async (fields) => {
        fc.pre(!fits(fields))
        const code = await refused(await fixture.signer.sign(fixture.claims({ arguments: fields })))
        assert.equal(code, 'E_BAD_REQUEST')
      }),
      options
    )
  })
})

function sameBytes(a: string, b: string): boolean {
  const bytes = (jws: string) =>
    jws
      .split('.')
      .map((part) => Buffer.from(part, 'base64url').toString('hex'))
      .join()
  return bytes(a) === bytes(b)
}

function fits(fields: Record<string, unknown>): boolean {
  const { vm, size, ...others } = fields
  return vm === 'web-1' && (size === undefined || Number.isInteger(size)) && Object.keys(others).length === 0
}
