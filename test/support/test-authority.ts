// A certificate authority for tests: makes certificates with any name, life and issuer.

import '../../src/lib/reflect-metadata.ts'
import { createHash, X509Certificate as NodeCertificate, type webcrypto } from 'node:crypto'
import { isIP } from 'node:net'
import * as x509 from '@peculiar/x509'
import type { Identity } from '../../src/agent/identity/identity.ts'
import type { CommandKey } from '../../src/protocol/enrollment.ts'

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const dayMs = 86_400_000

export interface Pair {
  readonly cert: string
  readonly key: string
}

export interface CertificateOptions {
  readonly uris?: readonly string[]
  readonly names?: readonly string[]
  readonly from?: number
  readonly to?: number
  readonly usage?: 'client' | 'server'
}

export const trustDomain = 'test.example'

export class TestAuthority {
  readonly certificate: string
  readonly #keys: webcrypto.CryptoKeyPair
  readonly #parsed: x509.X509Certificate

  private constructor(parsed: x509.X509Certificate, keys: webcrypto.CryptoKeyPair) {
    this.#parsed = parsed
    this.#keys = keys
    this.certificate = parsed.toString('pem')
  }

  static async create(): Promise<TestAuthority> {
    const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
    const parsed = await x509.X509CertificateGenerator.createSelfSigned({
      name: 'CN=test CA',
      notBefore: new Date(Date.now() - 3_650 * dayMs),
      notAfter: new Date(Date.now() + 3_650 * dayMs),
      keys,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true)
      ]
    })
    return new TestAuthority(parsed, keys)
  }

  get caHash(): string {
    const key = new NodeCertificate(this.certificate).publicKey.export({ type: 'spki', format: 'der' })
    return `sha256:${createHash('sha256').update(key).digest('hex')}`
  }

  async issue(options: CertificateOptions): Promise<Pair> {
    const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
    const key = x509.PemConverter.encode(
      await crypto.subtle.exportKey('pkcs8', keys.privateKey),
      'PRIVATE KEY'
    )
    return { cert: await this.certify(keys.publicKey, options), key }
  }

  /** For the request that a host made with its own key. */
  certifyRequest(requestPem: string, options: CertificateOptions): Promise<string> {
    return this.certify(new x509.Pkcs10CertificateRequest(requestPem).publicKey, options)
  }

  async certify(
    publicKey: x509.X509CertificateCreateParams['publicKey'],
    { uris = [], names = [], from, to, usage = 'client' }: CertificateOptions
  ): Promise<string> {
    const purpose = usage === 'client' ? x509.ExtendedKeyUsage.clientAuth : x509.ExtendedKeyUsage.serverAuth
    const certificate = await x509.X509CertificateGenerator.create({
      subject: 'CN=test',
      issuer: this.#parsed.subject,
      notBefore: new Date(from ?? Date.now() - dayMs),
      notAfter: new Date(to ?? Date.now() + dayMs),
      publicKey,
      signingKey: this.#keys.privateKey,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.ExtendedKeyUsageExtension([purpose]),
        new x509.SubjectAlternativeNameExtension([
          ...uris.map((value) => ({ type: 'url' as const, value })),
          ...names.map((value) => ({ type: isIP(value) ? ('ip' as const) : ('dns' as const), value }))
        ])
      ]
    })
    return certificate.toString('pem')
  }

  /** What enrollment would have left on a host. */
  async identity(
    options: CertificateOptions & { hostId?: string; commandKeys?: CommandKey[] } = {}
  ): Promise<Identity> {
    const { hostId = 'host-1', commandKeys } = options
    const pair = await this.issue({ uris: [`spiffe://${trustDomain}/host/${hostId}`], ...options })
    return {
      hostId,
      trustDomain,
      certificate: pair.cert,
      key: pair.key,
      caCertificate: this.certificate,
      commandKeys: commandKeys ?? [{ kty: 'OKP', crv: 'Ed25519', kid: 'key-1', x: 'A'.repeat(43) }],
      schedulerUrls: ['wss://127.0.0.1:7443/v1/agent'],
      enrolledAt: Date.now()
    }
  }
}
