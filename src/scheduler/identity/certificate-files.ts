// A certificate with its key, as two PEM files that belong together.

import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import { join } from 'node:path'
import { HostletError } from '../../errors.ts'
import { writePrivateFile } from '../../lib/private-file.ts'
import { readIfThere } from './read-if-there.ts'

export interface CertificateWithKey {
  readonly certificatePem: string
  /** PKCS #8. */
  readonly keyPem: string
}

export function writeCertificate(directory: string, name: string, pair: CertificateWithKey): void {
  writePrivateFile(keyPath(directory, name), pair.keyPem)
  writePrivateFile(certificatePath(directory, name), pair.certificatePem)
}

/**
 * Both files, or undefined when there is no certificate: one without its certificate is what a crash between the two
 * writes leaves. Throws E_CORRUPT when they do not belong together.
 */
export function readCertificate(directory: string, name: string): CertificateWithKey | undefined {
  const certificatePem = readIfThere(certificatePath(directory, name))
  if (certificatePem === undefined) return undefined
  const keyPem = readIfThere(keyPath(directory, name))
  if (keyPem === undefined || !belongTogether(certificatePem, keyPem))
    throw new HostletError(
      'E_CORRUPT',
      `${keyPath(directory, name)} is missing or not the key of ${certificatePath(directory, name)}. Restore both from a backup.`
    )
  return { certificatePem, keyPem }
}

function belongTogether(certificatePem: string, keyPem: string): boolean {
  try {
    const certified = new X509Certificate(certificatePem).publicKey.export({ type: 'spki', format: 'der' })
    const derived = createPublicKey(createPrivateKey(keyPem)).export({ type: 'spki', format: 'der' })
    return certified.equals(derived)
  } catch {
    // Not PEM at all: the caller says what to do.
    return false
  }
}

const certificatePath = (directory: string, name: string) => join(directory, `${name}.pem`)
const keyPath = (directory: string, name: string) => join(directory, `${name}-key.pem`)
