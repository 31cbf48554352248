// What a stranger with openssl s_client finds at the scheduler's port: its TLS settings as they are, not as they are written.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { TestScheduler } from './support/test-scheduler.ts'

let scheduler: TestScheduler
let files: { ca: string; cert: string; key: string; session: string }

interface Found {
  readonly status: number
  readonly text: string
}

/** Connects as openssl would with these arguments; sends a request, so that whatever comes after the handshake comes. */
function sClient(...words: readonly string[]): Promise<Found> {
  const common = ['s_client', '-connect', `127.0.0.1:${scheduler.running.port}`, '-CAfile', files.ca]
  const child = spawn('openssl', [...common, '-ign_eof', ...words])
  const chunks: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk))
  // A refused handshake ends openssl before it reads this.
  child.stdin.on('error', () => undefined)
  child.stdin.end('GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
  return new Promise((resolve) => {
    child.on('close', (status) => resolve({ status: status ?? -1, text: Buffer.concat(chunks).toString() }))
  })
}

const client = () => ['-cert', files.cert, '-key', files.key]

describe("the scheduler's port, from outside", { timeout: 60_000 }, () => {
  before(async () => {
    scheduler = await TestScheduler.start()
    const agent = await scheduler.enroll()
    files = {
      ca: scheduler.running.caFile,
      cert: join(scheduler.directory, 'host.pem'),
      key: join(scheduler.directory, 'host.key'),
      session: join(scheduler.directory, 'session')
    }
    writeFileSync(files.cert, agent.reply.certificate)
    writeFileSync(files.key, agent.keyPem)
  })
  after(() => scheduler[Symbol.asyncDispose]())

  it('speaks TLS 1.3 with a verified chain and forward secrecy, asks for a client certificate, and takes no early data', async () => {
    const { status, text } = await sClient(...client())
    assert.equal(status, 0, text)
    assert.match(
      text,
      /New, TLSv1\.3, Cipher is TLS_(AES_256_GCM_SHA384|CHACHA20_POLY1305_SHA256|AES_128_GCM_SHA256)/
    )
    assert.match(text, /Verify return code: 0 \(ok\)/)
    assert.match(text, /Server Temp Key: (X25519|ECDH)/)
    assert.match(text, /Early data was not sent/)
    assert.match(text, /Compression: NONE/)
    assert.match(text, /Acceptable client certificate CA names\s+CN = hostlet CA hostlet\.internal/)
    assert.match(text, /HTTP\/1\.1 200 OK/)
  })

  const refused: readonly (readonly [string, readonly string[], RegExp])[] = [
    ['TLS 1.2', ['-tls1_2'], /alert protocol version/],
    [
      'TLS 1.1',
      ['-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0'],
      /alert protocol version|no protocols available/
    ],
    ['suites with a short tag', ['-ciphersuites', 'TLS_AES_128_CCM_8_SHA256'], /alert handshake failure/],
    ['another protocol inside, HTTP/2', ['-alpn', 'h2'], /alert no application protocol/]
  ]
  for (const [what, words, alert] of refused)
    it(`refuses ${what}`, async () => {
      const { status, text } = await sClient(...words)
      assert.notEqual(status, 0)
      assert.match(text, alert)
      assert.doesNotMatch(text, /HTTP\/1\.1/)
    })

  it('resumes no session: whoever connects shows each time that it holds the key', async () => {
    await sClient(...client(), '-sess_out', files.session)
    const { status, text } = await sClient('-sess_in', files.session)
    assert.equal(status, 0, text)
    assert.doesNotMatch(text, /Reused/)
    assert.match(text, /New, TLSv1\.3/)
  })

  it('takes no certificate without its key', async () => {
    const stranger = join(scheduler.directory, 'stranger.key')
    await new Promise((resolve) =>
      spawn('openssl', [
        'genpkey',
        '-algorithm',
        'EC',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-out',
        stranger
      ]).on('close', resolve)
    )
    const { status, text } = await sClient('-cert', files.cert, '-key', stranger)
    assert.notEqual(status, 0)
    assert.match(text, /key values mismatch/)
  })
})
