// Where credentials may come from, and that nothing of them comes out in errors.

import assert from 'node:assert/strict'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { inspect } from 'node:util'
import { CompactEncrypt, exportJWK, generateKeyPair } from 'jose'
import {
  credentialsFromEnvironment,
  credentialsFromFile,
  credentialsFromJwe,
  credentialsFromSystemd,
  parseCredentials
} from '../../../src/backup/repository/credentials.ts'
import type { HostletError } from '../../../src/errors.ts'
import { hasCode } from './store.contract.ts'

const expected = { accessKeyId: 'AKIAKEY', secretAccessKey: 'se/cr+et=' }
const json = JSON.stringify(expected)
const directory = await mkdtemp(join(tmpdir(), 'hl-t-credentials-'))
after(() => rm(directory, { recursive: true, force: true }))

async function file(name: string, text: string, mode = 0o600): Promise<string> {
  const path = join(directory, name)
  await writeFile(path, text)
  await chmod(path, mode)
  return path
}

describe('credentials of a repository', () => {
  it('are read as JSON and as ini, of the section that was asked for', () => {
    assert.deepEqual(parseCredentials(` ${json}\n`, 'here'), expected)
    const ini =
      '# ours\n[other]\naws_access_key_id = X\n[default]\nregion = x\naws_access_key_id=AKIAKEY\naws_secret_access_key = se/cr+et=\n'
    assert.deepEqual(parseCredentials(ini, 'here'), expected)
    assert.throws(() => parseCredentials(ini, 'here', 'other'), hasCode('E_CORRUPT'))
    const token = { ...expected, sessionToken: 'token' }
    assert.deepEqual(parseCredentials(JSON.stringify(token), 'here'), token)
  })

  it('are refused when anything is missing, unknown or unsendable, without repeating it', () => {
    const texts = [
      '',
      '{"accessKeyId":"AKIAKEY","secretAccessKey":"se/cr+et="',
      '{"accessKeyId":"AKIAKEY"}',
      JSON.stringify({ ...expected, secretAccessKey: 'se/cr+et=\r\nX: y' }),
      JSON.stringify({ ...expected, secretAccessKey: '' }),
      JSON.stringify({ ...expected, other: 'se/cr+et=' }),
      JSON.stringify([expected]),
      '[default]\naws_secret_access_key = se/cr+et=\n'
    ]
    for (const text of texts)
      assert.throws(
        () => parseCredentials(text, 'here'),
        (error: HostletError) => {
          const said = inspect(error, { depth: 20, showHidden: true })
          return error.code === 'E_CORRUPT' && !said.includes('se/cr') && !said.includes('AKIAKEY')
        },
        text
      )
  })

  it('come from files that only their owner can read', async () => {
    assert.deepEqual(await credentialsFromFile(await file('private', json)), expected)
    for (const mode of [0o640, 0o604, 0o620])
      await assert.rejects(credentialsFromFile(await file('open', json, mode)), hasCode('E_AUTH'))
    await assert.rejects(credentialsFromFile(join(directory, 'absent')), hasCode('E_NOT_FOUND'))
  })

  it('come from a credential of systemd, by its name alone', async () => {
    await file('s3', json, 0o400)
    assert.deepEqual(await credentialsFromSystemd('s3', directory), expected)
    await assert.rejects(credentialsFromSystemd('s3', undefined), hasCode('E_NOT_FOUND'))
    await assert.rejects(credentialsFromSystemd('../s3', join(directory, 'x')), hasCode('E_NOT_FOUND'))
  })

  it('come from the environment, all or none', () => {
    const environment = { AWS_ACCESS_KEY_ID: 'AKIAKEY', AWS_SECRET_ACCESS_KEY: 'se/cr+et=', HOME: '/' }
    assert.deepEqual(credentialsFromEnvironment(environment), expected)
    assert.equal(credentialsFromEnvironment({ HOME: '/' }), undefined)
    assert.throws(() => credentialsFromEnvironment({ AWS_ACCESS_KEY_ID: 'AKIAKEY' }), hasCode('E_CORRUPT'))
  })

  it('come encrypted, for the holder of the key only', async () => {
    const pair = () => generateKeyPair('ECDH-ES+A256KW', { crv: 'X25519', extractable: true })
    const [ours, other] = await Promise.all([pair(), pair()])
    const jwe = await new CompactEncrypt(Buffer.from(json))
      .setProtectedHeader({ alg: 'ECDH-ES+A256KW', enc: 'A256GCM' })
      .encrypt(ours.publicKey)
    assert.deepEqual(await credentialsFromJwe(`${jwe}\n`, await exportJWK(ours.privateKey)), expected)
    await assert.rejects(credentialsFromJwe(jwe, await exportJWK(other.privateKey)), hasCode('E_AUTH'))
    await assert.rejects(credentialsFromJwe('nothing', await exportJWK(ours.privateKey)), hasCode('E_AUTH'))
  })
})
