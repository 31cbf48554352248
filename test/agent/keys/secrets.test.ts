// Secrets of commands: opened for their VM and image with this host's key, and refused in every other case.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { CompactEncrypt, importJWK } from 'jose'
import { HostKey } from '../../../src/agent/keys/host-key.ts'
import { createPrivateKey, type PublicKey, publicHalf } from '../../../src/agent/keys/jwk.ts'
import { Secrets } from '../../../src/agent/keys/secrets.ts'
import { HostletError } from '../../../src/errors.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { readSealedHeader, sealUserData } from '../../../src/protocol/sealed-user-data.ts'
import { sealedCharactersMax, userDataBytesMax, type VmSpecification } from '../../../src/protocol/vm.ts'

const uuid = '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'
const image = 'a'.repeat(64)
const text = '#cloud-config\npassword: hünter2\n'

describe('secrets of a command', () => {
  let directory: string
  let hostKey: HostKey
  let key: PublicKey
  let secrets: Secrets

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-secrets-'))
    hostKey = await HostKey.open({ stateDirectory: directory, clock: systemClock })
    key = hostKey.publicKey
    secrets = new Secrets(() => hostKey)
  })
  afterEach(() => rmSync(directory, { recursive: true }))

  it('are opened as they were, to the byte, up to their longest', async () => {
    assert.equal(await secrets.userDataOf(vm(await sealed())), text)
    const longest = 'ü'.repeat(userDataBytesMax / 2)
    const jwe = await sealed({ userData: longest })
    assert.ok(jwe.length <= sealedCharactersMax, `${jwe.length}`)
    assert.equal(await secrets.userDataOf(vm(jwe)), longest)
    assert.equal(await secrets.userDataOf(vm(undefined)), undefined)
  })

  it('say for whom they are, and nothing else that could be read', async () => {
    const jwe = await sealed()
    const { epk: _ephemeral, ...header } = readSealedHeader(jwe)
    assert.deepEqual(header, {
      alg: 'ECDH-ES+A256KW',
      enc: 'A256GCM',
      typ: 'hostlet-user-data+jwe',
      kid: key.kid,
      vm: uuid,
      image
    })
    assert.notEqual(jwe, await sealed(), 'equal texts must not look equal')
  })

  it('are not sealed when they are too long, and no error repeats them', async () => {
    const error = await refusal(() => sealed({ userData: 'ü'.repeat(userDataBytesMax / 2) + text }))
    assert.equal(error.code, 'E_BAD_REQUEST')
    assert.ok(!told(error).includes('hünter2'))
  })

  it('are refused in plain text, with what to do instead', async () => {
    const error = await refusal(() => secrets.userDataOf(vm(text)))
    assert.equal(error.code, 'E_BAD_REQUEST')
    assert.match(error.message, /not encrypted.*hostlet vm create/)
    assert.ok(!told(error).includes('hünter2'))
  })

  it('are refused for another VM, another image, and an older key of the host', async () => {
    const cases = [
      ['E_BAD_REQUEST', /another VM/, await sealed({ vm: uuid.replace('0b', 'ff') })],
      ['E_BAD_REQUEST', /another image/, await sealed({ image: 'b'.repeat(64) })],
      ['E_STALE', /its key was replaced/, await sealed({ key: publicHalf(await createPrivateKey()) })]
    ] as const
    for (const [code, message, jwe] of cases) {
      const error = await refusal(() => secrets.userDataOf(vm(jwe)))
      assert.equal(error.code, code)
      assert.match(error.message, message)
    }
  })

  it('are refused when a byte was changed, or the header was', async () => {
    const jwe = await sealed()
    const parts = jwe.split('.')
    for (const [index, part] of parts.entries()) {
      const changed = parts.with(index, `${part[0] === 'A' ? 'B' : 'A'}${part.slice(1)}`).join('.')
      await assert.rejects(secrets.userDataOf(vm(changed)), HostletError, `part ${index}`)
    }
    // Readable by all, so anybody could write another VM into it.
    const header = { ...readSealedHeader(jwe), vm: uuid.replace('0b', 'ff') }
    const forged = parts.with(0, Buffer.from(JSON.stringify(header)).toString('base64url')).join('.')
    const stolen = { ...vm(forged), uuid: header.vm }
    assert.equal((await refusal(() => secrets.userDataOf(stolen))).code, 'E_AUTH')
  })

  it('are refused when they were encrypted for another purpose, or another way', async () => {
    const good = { alg: 'ECDH-ES+A256KW', enc: 'A256GCM', typ: 'hostlet-user-data+jwe', vm: uuid, image }
    const others = [
      { ...good, typ: 'hostlet-disk-key+jwe' },
      { ...good, typ: undefined },
      { ...good, enc: 'A128GCM' },
      { ...good, alg: 'ECDH-ES' },
      { ...good, zip: 'DEF' },
      { ...good, more: 'x' }
    ]
    const recipient = await importJWK({ ...key }, 'ECDH-ES+A256KW')
    for (const header of others) {
      const { zip, ...sound } = header as Record<string, unknown>
      const jwe = await new CompactEncrypt(new TextEncoder().encode(text))
        .setProtectedHeader({ ...sound, kid: key.kid } as never)
        .encrypt(recipient)
      const [, ...rest] = jwe.split('.')
      const told = {
        ...JSON.parse(Buffer.from(jwe.split('.')[0] ?? '', 'base64url').toString()),
        ...(zip ? { zip } : {})
      }
      const sent = [Buffer.from(JSON.stringify(told)).toString('base64url'), ...rest].join('.')
      const error = await refusal(() => secrets.userDataOf(vm(sent)))
      assert.equal(error.code, 'E_BAD_REQUEST', JSON.stringify(header))
    }
    assert.equal((await refusal(() => secrets.userDataOf(vm('a.b.c.d.e')))).code, 'E_BAD_REQUEST')
  })

  it('are opened with a key that was rotated away a while ago', async () => {
    const jwe = await sealed()
    await hostKey.rotate(async () => undefined)
    assert.notEqual(hostKey.publicKey.kid, key.kid)
    assert.equal(await secrets.userDataOf(vm(jwe)), text)
  })

  function sealed(
    change: { key?: PublicKey; vm?: string; image?: string; userData?: string } = {}
  ): Promise<string> {
    const { key: other = key, userData = text, ...rest } = change
    return sealUserData(userData, other, { vm: uuid, image, ...rest })
  }
})

function vm(userData: string | undefined): VmSpecification {
  return {
    name: 'web-1',
    uuid,
    profile: 'starter',
    image: { url: 'https://images.test/a', sha256: image, format: 'raw' },
    cpus: 1,
    memoryBytes: 256 * 1024 ** 2,
    rootDiskBytes: 1024 ** 2,
    seed: userData === undefined ? {} : { userData }
  }
}

async function refusal(run: () => Promise<unknown>): Promise<HostletError> {
  try {
    await run()
  } catch (error) {
    assert.ok(error instanceof HostletError, String(error))
    return error
  }
  assert.fail('it was not refused')
}

function told(error: HostletError): string {
  return JSON.stringify(error.toReport()) + error.stack
}
