// An HTTPS server for images with a certificate of its own CA, whose answers a test decides.

import { webcrypto } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import type { RequestListener } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import '../../../src/lib/reflect-metadata.ts'

export interface ImageServer extends AsyncDisposable {
  /** https://localhost:port */
  readonly url: string
  /** PEM file of the certificate that signed the server's. */
  readonly caPath: string
  readonly requests: string[]
}

export async function startImageServer(directory: string, answer: RequestListener): Promise<ImageServer> {
  const { certificate, key } = await selfSigned()
  const caPath = join(directory, 'ca.pem')
  await writeFile(caPath, certificate)
  const requests: string[] = []
  const server = createServer({ key, cert: certificate }, (request, response) => {
    requests.push(request.url ?? '')
    answer(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `https://localhost:${(server.address() as AddressInfo).port}`,
    caPath,
    requests,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  }
}

async function selfSigned(): Promise<{ certificate: string; key: string }> {
  const {
    X509CertificateGenerator,
    SubjectAlternativeNameExtension,
    BasicConstraintsExtension,
    cryptoProvider
  } = await import('@peculiar/x509')
  cryptoProvider.set(webcrypto as unknown as Crypto)
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: 'CN=localhost',
    keys: keys as never,
    signingAlgorithm: algorithm,
    notAfter: new Date(Date.now() + 3_600_000),
    extensions: [
      new BasicConstraintsExtension(true),
      new SubjectAlternativeNameExtension([{ type: 'dns', value: 'localhost' }])
    ]
  })
  const exported = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64')
  const key = `-----BEGIN PRIVATE KEY-----\n${exported}\n-----END PRIVATE KEY-----\n`
  return { certificate: certificate.toString('pem'), key }
}
