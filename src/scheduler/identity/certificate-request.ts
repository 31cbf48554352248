// Reads a host's PKCS #10 request: the public key, once the request's own signature proves that the sender holds it.

import '../../lib/reflect-metadata.ts'
import * as x509 from '@peculiar/x509'
import { HostletError } from '../../errors.ts'

/** The request's public key. Throws E_BAD_REQUEST when it is not a request, not ECDSA P-256, or not signed by its key. */
export async function publicKeyOfRequest(requestPem: string): Promise<CryptoKey> {
  const request = parse(requestPem)
  const algorithm = request.publicKey.algorithm as { name: string; namedCurve?: string }
  if (algorithm.name !== 'ECDSA' || algorithm.namedCurve !== 'P-256')
    throw refusal('its key is not ECDSA on P-256')
  if (!(await verified(request))) throw refusal('its signature is not by its own key')
  return request.publicKey.export({ name: 'ECDSA', namedCurve: 'P-256' }, ['verify'])
}

function parse(requestPem: string): x509.Pkcs10CertificateRequest {
  try {
    return new x509.Pkcs10CertificateRequest(requestPem)
  } catch (cause) {
    throw refusal('it is not PKCS #10 in PEM', cause)
  }
}

async function verified(request: x509.Pkcs10CertificateRequest): Promise<boolean> {
  try {
    return await request.verify()
  } catch {
    // A signature that cannot even be read proves nothing.
    return false
  }
}

function refusal(why: string, cause?: unknown): HostletError {
  return new HostletError(
    'E_BAD_REQUEST',
    `the certificate request is refused: ${why}. Make it with "hostlet enroll".`,
    { cause, details: { reason: 'certificate-request' } }
  )
}
