// The host's backup key, and what the policy opens with it: kept, refused when damaged, and in no error.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { CompactEncrypt, importJWK } from 'jose'
import { loadCredentials, loadRecipients, loadUnlockKeys } from '../../../src/agent/backups/credentials.ts'
import { ensureHostKey, hostKeyCredential, hostKeyName } from '../../../src/agent/backups/host-key.ts'
import { createPrivateKey, publicHalf } from '../../../src/agent/keys/jwk.ts'
import type { Policy } from '../../../src/agent/policy/policy.ts'
import type { HostletError } from '../../../src/errors.ts'

const secret = 'wJalrXUtnFEMI'
const credentials = { accessKeyId: 'AKIA', secretAccessKey: secret }

describe('keys of backups', () => {
  let directory: string
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-keys-'))
  })
  after(() => rmSync(directory, { recursive: true }))

  function write(name: string, content: string, mode = 0o600): string {
    const path = join(directory, name)
    writeFileSync(path, content, { mode })
    return path
  }

  const places = () => ({ policyPath: join(directory, 'policy.yaml'), credentialsDirectory: directory })

  it('are made once, for their owner only', async () => {
    const stateDirectory = join(directory, 'state')
    const key = await ensureHostKey({ stateDirectory })
    assert.deepEqual(await ensureHostKey({ stateDirectory }), key)
    assert.equal(statSync(join(stateDirectory, hostKeyName)).mode & 0o777, 0o600)
    assert.ok(!('d' in publicHalf(key)))
    assert.match(key.kid, /^[A-Za-z0-9_-]{43}$/)
  })

  it("are systemd's where it has one, and then nothing is written", async () => {
    const credentialsDirectory = join(directory, 'credentials')
    mkdirSync(credentialsDirectory)
    const given = await createPrivateKey()
    writeFileSync(join(credentialsDirectory, hostKeyCredential), JSON.stringify(given))
    const stateDirectory = join(directory, 'other-state')
    assert.deepEqual(await ensureHostKey({ stateDirectory, credentialsDirectory }), given)
    assert.throws(() => statSync(stateDirectory), { code: 'ENOENT' })
  })

  it('are not replaced when damaged, and not repeated in the error', async () => {
    const stateDirectory = join(directory, 'damaged')
    const key = await ensureHostKey({ stateDirectory })
    const path = join(stateDirectory, hostKeyName)
    const damaged = readFileSync(path, 'utf8').replace('}', '')
    writeFileSync(path, damaged)
    const error = await ensureHostKey({ stateDirectory }).then(unexpected, (error: HostletError) => error)
    assert.equal(error.code, 'E_CORRUPT')
    assert.ok(!JSON.stringify([error.message, error.cause]).includes(key.d.slice(0, 8)))
    assert.equal(readFileSync(path, 'utf8'), damaged)
  })

  it('open credentials from a file, from systemd and from a JWE', async () => {
    const key = await createPrivateKey()
    const text = JSON.stringify(credentials)
    const file = write('s3.json', text)
    const jwe = await new CompactEncrypt(Buffer.from(text))
      .setProtectedHeader({ alg: 'ECDH-ES+A256KW', enc: 'A256GCM' })
      .encrypt(await importJWK({ ...publicHalf(key) }, 'ECDH-ES+A256KW'))
    for (const source of [{ file }, { systemdCredential: 's3.json' }, { jwe }])
      assert.deepEqual(await loadCredentials(source, key, places()), credentials)
    const other = await createPrivateKey()
    await assert.rejects(loadCredentials({ jwe }, other, places()), { code: 'E_AUTH' })
  })

  it('refuse credentials that others can read or that are none, without telling them', async () => {
    const key = await createPrivateKey()
    const open = write('open.json', JSON.stringify(credentials), 0o644)
    await assert.rejects(loadCredentials({ file: open }, key, places()), { code: 'E_AUTH' })
    const broken = write('broken.json', `{"secretAccessKey": "${secret}", "accessKeyId": "${secret}`)
    const error = await loadCredentials({ file: broken }, key, places()).then(
      unexpected,
      (error: HostletError) => error
    )
    assert.equal(error.code, 'E_CORRUPT')
    assert.ok(!`${error.message} ${JSON.stringify(error)} ${String(error.cause)}`.includes(secret))
    const missing = { systemdCredential: 'missing' }
    await assert.rejects(loadCredentials(missing, key, places()), { code: 'E_NOT_FOUND' })
    const nowhere = { policyPath: places().policyPath }
    await assert.rejects(loadCredentials(missing, key, nowhere), { code: 'E_NOT_FOUND' })
  })

  it('refuse a private key among the recipients, and a public one to unlock with', async () => {
    const key = await createPrivateKey()
    const privateFile = write('private.jwk', JSON.stringify(key))
    const publicFile = write('public.jwk', JSON.stringify(publicHalf(key)))
    const policy = (changes: Partial<Policy>): Policy => ({
      repositories: {},
      recovery: [],
      tenants: [],
      unlockKeys: [],
      authorities: [],
      exportDirectories: [],
      ...changes
    })
    const vm = { name: 'web-1', uuid: '0b54e6f2-6b53-4a3e-9d1c-0123456789ab' }
    const recipients = (file: string) => loadRecipients(policy({ recovery: [{ file }] }), vm, places())
    const unlockKeys = (file: string) => loadUnlockKeys(policy({ unlockKeys: [{ file }] }), places())
    assert.deepEqual(await recipients(publicFile), [publicHalf(key)])
    assert.deepEqual(await unlockKeys(privateFile), [key])
    await assert.rejects(recipients(privateFile), { code: 'E_AUTH', message: /is a private key/ })
    await assert.rejects(unlockKeys(publicFile), { code: 'E_CORRUPT' })
  })
})

function unexpected(): never {
  return assert.fail('expected a refusal')
}
