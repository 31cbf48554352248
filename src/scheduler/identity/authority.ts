// The certificate authority of the fleet: made at the first start, then the one that signs the scheduler and its hosts.

import '../../lib/reflect-metadata.ts'
import {
  createHash,
  createPublicKey,
  type KeyObject,
  X509Certificate as NodeCertificate,
  randomBytes,
  type webcrypto
} from 'node:crypto'
import { isIP } from 'node:net'
import * as x509 from '@peculiar/x509'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import { spiffeId } from '../../protocol/enrollment.ts'
import { type CertificateWithKey, readCertificate, writeCertificate } from './certificate-files.ts'
import { publicKeyOfRequest } from './certificate-request.ts'

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
/** How far before its making a certificate becomes valid: clocks differ. */
const backdateMs = 300_000
/** A server certificate is replaced when less than this share of its life is left. */
const renewBelowRatio = 1 / 3

export interface AuthorityOptions {
  readonly directory: string
  readonly trustDomain: string
  /** Lives of what it makes: itself, the scheduler's certificate, a host's. */
  readonly authorityMs: number
  readonly serverMs: number
  readonly hostMs: number
  readonly clock: Pick<Clock, 'now'>
  readonly log: Logger
}

export interface IssuedCertificate {
  readonly certificatePem: string
  readonly expiresAt: number
}

interface Subject {
  readonly name: string
  readonly publicKey: CryptoKey
  readonly lifeMs: number
  readonly extensions: x509.Extension[]
}

export class Authority {
  readonly certificatePem: string
  /** `sha256:` and the hash of the public key: what a new host pins. */
  readonly caHash: string
  readonly #options: AuthorityOptions
  readonly #certificate: x509.X509Certificate
  readonly #key: CryptoKey

  private constructor(options: AuthorityOptions, certificatePem: string, key: CryptoKey) {
    this.#options = options
    this.#certificate = new x509.X509Certificate(certificatePem)
    this.#key = key
    this.certificatePem = certificatePem
    this.caHash = hashOfPublicKey(certificatePem)
  }

  /** Loads the authority from its directory, or makes it there. Throws E_CORRUPT when key and certificate differ. */
  static async open(options: AuthorityOptions): Promise<Authority> {
    const found = readCertificate(options.directory, 'ca')
    const pair = found ?? (await createAuthority(options))
    if (found === undefined) {
      writeCertificate(options.directory, 'ca', pair)
      options.log.info({ caHash: hashOfPublicKey(pair.certificatePem) }, 'certificate authority created')
    }
    return Authority.of(options, pair)
  }

  /** One whose certificate and key are at hand. */
  static async of(
    options: AuthorityOptions,
    { certificatePem, keyPem }: CertificateWithKey
  ): Promise<Authority> {
    return new Authority(options, certificatePem, await importKey(keyPem))
  }

  /**
   * The certificate of another CA of this fleet, signed by this one: whoever believes only this one believes the other
   * through it. Both have the same name, so that it does not count as a further level (RFC 5280, 4.2.1.9).
   */
  async vouchFor(otherPem: string): Promise<string> {
    const other = new x509.X509Certificate(otherPem)
    const { publicKey } = other
    const now = this.#options.clock.now()
    const until = Math.min(other.notAfter.getTime(), this.#certificate.notAfter.getTime())
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: newSerialNumber(),
      subject: other.subject,
      issuer: this.#certificate.subject,
      ...validity(now, until),
      publicKey,
      signingKey: this.#key,
      signingAlgorithm: algorithm,
      extensions: [
        ...authorityExtensions(),
        await x509.AuthorityKeyIdentifierExtension.create(this.#certificate.publicKey),
        await x509.SubjectKeyIdentifierExtension.create(publicKey)
      ]
    })
    return certificate.toString('pem')
  }

  /** The scheduler's own certificate: the one on disk while it serves, else a new one. */
  async serverCertificate(names: readonly string[]): Promise<CertificateWithKey> {
    const { directory, log } = this.#options
    const found = readReplaceable(directory, 'server')
    if (found !== undefined && this.#stillServes(found.certificatePem, names)) return found
    const pair = await this.#createServer(names)
    writeCertificate(directory, 'server', pair)
    log.info({ names, replaced: found !== undefined }, 'server certificate created')
    return pair
  }

  /**
   * A client certificate for a host. Of the request only its public key is taken, after its signature has proved that
   * the sender holds the private one. Throws E_BAD_REQUEST.
   */
  async issueHostCertificate(requestPem: string, hostId: string): Promise<IssuedCertificate> {
    const { trustDomain, hostMs } = this.#options
    const certificate = await this.#issue({
      name: hostId,
      publicKey: await publicKeyOfRequest(requestPem),
      lifeMs: hostMs,
      extensions: [
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth], false),
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: spiffeId(trustDomain, 'host', hostId) }
        ])
      ]
    })
    return { certificatePem: certificate.toString('pem'), expiresAt: certificate.notAfter.getTime() }
  }

  async #createServer(names: readonly string[]): Promise<CertificateWithKey> {
    const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
    const certificate = await this.#issue({
      name: 'hostlet scheduler',
      publicKey: keys.publicKey,
      lifeMs: this.#options.serverMs,
      extensions: [
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth], false),
        new x509.SubjectAlternativeNameExtension([
          ...names.map((value) => ({ type: isIP(value) === 0 ? ('dns' as const) : ('ip' as const), value })),
          { type: 'url', value: spiffeId(this.#options.trustDomain, 'scheduler', 'main') }
        ])
      ]
    })
    return { certificatePem: certificate.toString('pem'), keyPem: await exportKey(keys.privateKey) }
  }

  async #issue({ name, publicKey, lifeMs, extensions }: Subject): Promise<x509.X509Certificate> {
    const now = this.#options.clock.now()
    return x509.X509CertificateGenerator.create({
      serialNumber: newSerialNumber(),
      subject: `CN=${name}`,
      issuer: this.#certificate.subject,
      ...validity(now, Math.min(now + lifeMs, this.#certificate.notAfter.getTime())),
      publicKey,
      signingKey: this.#key,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        await x509.AuthorityKeyIdentifierExtension.create(this.#certificate.publicKey),
        await x509.SubjectKeyIdentifierExtension.create(publicKey),
        ...extensions
      ]
    })
  }

  #stillServes(certificatePem: string, names: readonly string[]): boolean {
    const certificate = new NodeCertificate(certificatePem)
    const { notBefore, notAfter } = new x509.X509Certificate(certificatePem)
    const leftMs = notAfter.getTime() - this.#options.clock.now()
    const lifeMs = notAfter.getTime() - notBefore.getTime()
    const named = names.every((name) =>
      isIP(name) === 0 ? certificate.checkHost(name) !== undefined : certificate.checkIP(name) !== undefined
    )
    const ours = certificate.verify(new NodeCertificate(this.certificatePem).publicKey)
    return ours && named && leftMs > lifeMs * renewBelowRatio
  }
}

/** Like readCertificate; what is corrupt counts as absent, because a new one is as good. */
function readReplaceable(directory: string, name: string): CertificateWithKey | undefined {
  try {
    return readCertificate(directory, name)
  } catch (error) {
    if (error instanceof HostletError && error.code === 'E_CORRUPT') return undefined
    throw error
  }
}

/** A CA that signs itself; of the key that is given (PEM, PKCS #8, P-256), or of a new one. */
export async function createAuthority(
  options: Pick<AuthorityOptions, 'trustDomain' | 'authorityMs' | 'clock'>,
  given?: string
): Promise<CertificateWithKey> {
  const keys =
    given === undefined
      ? await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
      : await importPair(given)
  const now = options.clock.now()
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerialNumber(),
    name: `CN=hostlet CA ${options.trustDomain}`,
    ...validity(now, now + options.authorityMs),
    keys,
    signingAlgorithm: algorithm,
    extensions: [...authorityExtensions(), await x509.SubjectKeyIdentifierExtension.create(keys.publicKey)]
  })
  return { certificatePem: certificate.toString('pem'), keyPem: given ?? (await exportKey(keys.privateKey)) }
}

function authorityExtensions(): x509.Extension[] {
  return [
    new x509.BasicConstraintsExtension(true, 0, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true)
  ]
}

function validity(now: number, until: number): { notBefore: Date; notAfter: Date } {
  return { notBefore: new Date(now - backdateMs), notAfter: new Date(until) }
}

/** 127 random bits, positive, as RFC 5280 section 4.1.2.2 wants. */
function newSerialNumber(): string {
  const bytes = randomBytes(16)
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40
  return bytes.toString('hex')
}

/** `sha256:` and the hash of a certificate's public key. */
export function hashOfPublicKey(certificatePem: string): string {
  return hashOfKey(new NodeCertificate(certificatePem).publicKey)
}

export function hashOfKey(publicKey: KeyObject): string {
  const key = publicKey.export({ type: 'spki', format: 'der' })
  return `sha256:${createHash('sha256').update(key).digest('hex')}`
}

async function exportKey(key: CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await crypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')
}

async function importKey(keyPem: string): Promise<CryptoKey> {
  const [der] = x509.PemConverter.decode(keyPem)
  return crypto.subtle.importKey('pkcs8', der ?? new ArrayBuffer(0), algorithm, false, ['sign'])
}

async function importPair(keyPem: string): Promise<webcrypto.CryptoKeyPair> {
  const spki = createPublicKey(keyPem).export({ type: 'spki', format: 'der' })
  return {
    privateKey: await importKey(keyPem),
    publicKey: await crypto.subtle.importKey('spki', new Uint8Array(spki), algorithm, true, ['verify'])
  }
}
