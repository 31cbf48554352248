// A key and the request for its certificate, made here: the key never leaves the host.

import { HostletError } from '../../errors.ts'

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const

export interface KeyWithRequest {
  /** PEM, PKCS #8. */
  readonly key: string
  /** PEM, PKCS #10. */
  readonly certificateRequest: string
}

/** ECDSA on P-256. The common name is for people; the scheduler takes nothing but the public key. */
export async function createRequest(commonName: string): Promise<KeyWithRequest> {
  // Large, and used twice in a certificate's life: loaded when needed.
  await import('../../lib/reflect-metadata.ts')
  const { PemConverter, Pkcs10CertificateRequestGenerator } = await import('@peculiar/x509')
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  try {
    const request = await Pkcs10CertificateRequestGenerator.create({
      name: [{ CN: [commonName.slice(0, 64)] }],
      keys,
      signingAlgorithm: algorithm
    })
    const key = PemConverter.encode(await crypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY')
    return { key, certificateRequest: request.toString('pem') }
  } catch (cause) {
    throw new HostletError('E_INTERNAL', 'the certificate request could not be made', { cause })
  }
}
