// Several certificates in one PEM text, as files of CAs hold them while one takes the place of another.

const certificate = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g

/** The certificates of a text, one PEM each; a text without any is returned as it is, for its reader to refuse. */
export function splitCertificates(pem: string): string[] {
  const found = pem.match(certificate)
  return found === null ? [pem] : found.map((text) => `${text}\n`)
}
