// A reader of backups that knows nothing but docs/backup-format.md: it shares no code with what writes them.

import {
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
  timingSafeEqual,
  verify,
  type webcrypto,
  X509Certificate
} from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { zstdDecompressSync } from 'node:zlib'

type JsonWebKey = webcrypto.JsonWebKey

const BLOCK = 65_536
const FANOUT = 1_024

interface Entry {
  readonly offset: number
  readonly length: number
  readonly flags: number
}

interface Body {
  readonly host: string
  readonly finishedAt: number
  readonly disks: readonly { role: string; sizeBytes: number; levels: number; root: string | null }[]
}

export interface ReadOptions {
  readonly directory: string
  readonly vm: string
  readonly snapshot: string
  /** Private JWK of a recipient. */
  readonly key: JsonWebKey
  /** PEM. Without it the signer is not checked. */
  readonly authority?: string
}

/** Disks by role, as raw content. Throws at the first thing that is not as the page says. */
export function readSnapshot(options: ReadOptions): Map<string, Buffer> {
  const { directory, vm, snapshot } = options
  const envelope = JSON.parse(
    readFileSync(join(directory, 'vms', vm, 'snapshots', `${snapshot}.json`), 'utf8')
  )
  if (envelope.format !== 1 || envelope.vm !== vm || envelope.snapshot !== snapshot)
    throw new Error('another manifest')
  const vmKey = unwrap(envelope.keys, options.key)
  const keyId = derive(vmKey, '', 'key id', 16).toString('hex')
  if (keyId !== envelope.keyId) throw new Error('another VM key')
  const chain = checkSignature(envelope)
  const sealed = Buffer.from(envelope.sealed, 'base64url')
  const aad = Buffer.from(`hostlet-backup/1 manifest\n${vm}\n${snapshot}\n`)
  const body: Body = JSON.parse(
    open(derive(vmKey, snapshot, 'manifest'), sealed.subarray(0, 12), sealed.subarray(12), aad).toString(
      'utf8'
    )
  )
  if (options.authority !== undefined) checkChain(chain, new X509Certificate(options.authority), body)
  const reader = new TreeReader(join(directory, 'vms', vm, 'packs'), vmKey)
  return new Map(body.disks.map((disk) => [disk.role, reader.disk(disk)]))
}

function derive(vmKey: Buffer, salt: string | Buffer, what: string, bytes = 32): Buffer {
  return Buffer.from(hkdfSync('sha256', vmKey, salt, `hostlet-backup/1 ${what}`, bytes))
}

/** AES-256-GCM; `sealed` is ciphertext and tag. */
function open(key: Buffer, nonce: Buffer, sealed: Buffer, aad: Buffer): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 })
  decipher.setAAD(aad)
  decipher.setAuthTag(sealed.subarray(-16))
  return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()])
}

interface Jwe {
  readonly protected: string
  readonly iv: string
  readonly ciphertext: string
  readonly tag: string
  readonly recipients: readonly {
    encrypted_key: string
    header: { alg: string; kid: string; epk?: JsonWebKey }
  }[]
}

function unwrap(keys: Jwe, key: JsonWebKey): Buffer {
  const header = JSON.parse(Buffer.from(keys.protected, 'base64url').toString())
  const thumbprint = createHash('sha256')
    .update(
      JSON.stringify(
        key.kty === 'EC'
          ? { crv: key.crv, kty: key.kty, x: key.x, y: key.y }
          : { crv: key.crv, kty: key.kty, x: key.x }
      )
    )
    .digest('base64url')
  const recipient = keys.recipients.find((one) => one.header.kid === thumbprint)
  if (recipient?.header.alg !== 'ECDH-ES+A256KW' || header.enc !== 'A256GCM')
    throw new Error('not for this key')
  const publicKey = createPublicKey({ key: recipient.header.epk ?? header.epk, format: 'jwk' })
  const secret = diffieHellman({ privateKey: createPrivateKey({ key, format: 'jwk' }), publicKey })
  const algorithm = Buffer.from('ECDH-ES+A256KW')
  const number = (value: number) => Buffer.from(value.toString(16).padStart(8, '0'), 'hex')
  const hash = createHash('sha256')
  for (const part of [
    number(1),
    secret,
    number(algorithm.length),
    algorithm,
    number(0),
    number(0),
    number(256)
  ])
    hash.update(part)
  const unwrapping = createDecipheriv('id-aes256-wrap', hash.digest(), Buffer.alloc(8, 0xa6))
  const contentKey = Buffer.concat([
    unwrapping.update(Buffer.from(recipient.encrypted_key, 'base64url')),
    unwrapping.final()
  ])
  const sealed = Buffer.concat([
    Buffer.from(keys.ciphertext, 'base64url'),
    Buffer.from(keys.tag, 'base64url')
  ])
  return open(contentKey, Buffer.from(keys.iv, 'base64url'), sealed, Buffer.from(keys.protected))
}

interface SignedEnvelope {
  readonly vm: string
  readonly snapshot: string
  readonly keyId: string
  readonly sealed: string
  readonly signature: { readonly protected: string; readonly signature: string }
}

function checkSignature({ vm, snapshot, keyId, sealed, signature }: SignedEnvelope): X509Certificate[] {
  const { alg, x5c } = JSON.parse(Buffer.from(signature.protected, 'base64url').toString())
  const chain: X509Certificate[] = x5c.map((der: string) => new X509Certificate(Buffer.from(der, 'base64')))
  const hash = createHash('sha256').update(Buffer.from(sealed, 'base64url')).digest('hex')
  const payload = Buffer.from(`hostlet-backup/1 manifest\n${vm}\n${snapshot}\n${keyId}\n${hash}\n`).toString(
    'base64url'
  )
  const leaf = chain[0]
  if (alg !== 'ES256' || leaf === undefined) throw new Error('no ES256')
  const key = { key: leaf.publicKey, dsaEncoding: 'ieee-p1363' as const }
  const input = Buffer.from(`${signature.protected}.${payload}`)
  if (!verify('sha256', input, key, Buffer.from(signature.signature, 'base64url'))) throw new Error('forged')
  return chain
}

function checkChain(chain: readonly X509Certificate[], authority: X509Certificate, body: Body): void {
  for (const [index, certificate] of chain.entries()) {
    const issuer = chain[index + 1] ?? authority
    if (!certificate.verify(issuer.publicKey)) throw new Error('not signed by the CA')
    if (
      certificate.validFromDate.getTime() > body.finishedAt ||
      certificate.validToDate.getTime() < body.finishedAt
    )
      throw new Error('not valid at the time')
  }
  const names = chain[0]?.subjectAltName ?? ''
  if (!new RegExp(`URI:spiffe://[^/,]+/host/${body.host}(,|$)`).test(names)) throw new Error('another host')
}

class TreeReader {
  readonly #directory: string
  readonly #vmKey: Buffer
  readonly #packs = new Map<string, { content: Buffer; key: Buffer; entries: Map<number, Entry> }>()

  constructor(directory: string, vmKey: Buffer) {
    this.#directory = directory
    this.#vmKey = vmKey
  }

  disk({ sizeBytes, levels, root }: Body['disks'][number]): Buffer {
    const padded = Buffer.alloc(Math.ceil(sizeBytes / BLOCK) * BLOCK)
    if (root !== null) {
      const [pack = '', entry = '', address = ''] = root.split('.')
      this.#node(padded, { pack, entry: Number(entry), address: Buffer.from(address, 'hex') }, levels - 1, 0)
    }
    return padded.subarray(0, sizeBytes)
  }

  #node(
    disk: Buffer,
    reference: { pack: string; entry: number; address: Buffer },
    level: number,
    firstBlock: number
  ): void {
    const node = this.#entry(reference, 2, 'node address')
    if (node.readUInt8(0) !== 1 || node.readUInt8(1) !== level) throw new Error('another node')
    const [count, packs] = [node.readUInt16BE(2), node.readUInt16BE(4)]
    const rows = 8 + 128 + packs * 16
    const addresses = rows + count * 6
    if (node.length !== addresses + count * 32) throw new Error('a node of the wrong length')
    let row = 0
    for (let slot = 0; slot < FANOUT; slot++) {
      if (((node[8 + (slot >> 3)] ?? 0) & (1 << (slot & 7))) === 0) continue
      const pack = 136 + node.readUInt16BE(rows + row * 6) * 16
      const child = {
        pack: node.toString('hex', pack, pack + 16),
        entry: node.readUInt32BE(rows + row * 6 + 2),
        address: node.subarray(addresses + row * 32, addresses + row * 32 + 32)
      }
      const block = firstBlock + slot * FANOUT ** level
      if (level > 0) this.#node(disk, child, level - 1, block)
      else if (this.#entry(child, 0, 'address').copy(disk, block * BLOCK) !== BLOCK)
        throw new Error('past the end')
      row++
    }
    if (row !== count) throw new Error('a bitmap of another count')
  }

  /** Opened, decompressed, and compared with its address. */
  #entry(
    { pack, entry, address }: { pack: string; entry: number; address: Buffer },
    kind: number,
    addressKey: string
  ): Buffer {
    const { content, key, entries } = this.#pack(pack)
    const place = entries.get(entry)
    if (place === undefined || (place.flags & 2) !== kind || place.flags > 3) throw new Error('no such entry')
    const nonce = Buffer.alloc(12)
    nonce.writeUInt32BE(entry, 8)
    const sealed = content.subarray(place.offset, place.offset + place.length)
    const opened = open(key, nonce, sealed, Buffer.from([1, place.flags]))
    const plain = (place.flags & 1) === 1 ? zstdDecompressSync(opened, { maxOutputLength: BLOCK }) : opened
    const found = createHmac('sha256', derive(this.#vmKey, '', addressKey))
      .update(plain)
      .digest()
    if (!timingSafeEqual(found, address)) throw new Error('another address')
    return plain
  }

  #pack(id: string) {
    const known = this.#packs.get(id)
    if (known !== undefined) return known
    const name = readdirSync(this.#directory).find((one) => one.startsWith(`${id}.`))
    if (name === undefined) throw new Error('no such pack')
    const content = readFileSync(join(this.#directory, name))
    const header = Buffer.concat([Buffer.from('hostletP'), Buffer.alloc(8), Buffer.from(id, 'hex')])
    header.writeUInt16BE(1, 8)
    header.writeUInt32BE(Number(name.split('.')[1]), 12)
    const trailer = content.subarray(-32)
    if (trailer.toString('latin1', 24) !== 'hostletT' || trailer.readUInt32BE(20) !== 0x0001_0000)
      throw new Error('no pack')
    const sealed = content.subarray(-32 - trailer.readUInt32BE(16), -32)
    const table = open(
      derive(this.#vmKey, trailer.subarray(0, 16), 'table'),
      Buffer.alloc(12),
      sealed,
      header
    )
    const entries = new Map<number, Entry>()
    for (let at = 4; at < 4 + table.readUInt32BE(0) * 13; at += 13) {
      const place = {
        offset: table.readUInt32BE(at + 4),
        length: table.readUInt32BE(at + 8),
        flags: table.readUInt8(at + 12)
      }
      entries.set(table.readUInt32BE(at), place)
    }
    const pack = { content, key: derive(this.#vmKey, Buffer.from(id, 'hex'), 'pack'), entries }
    this.#packs.set(id, pack)
    return pack
  }
}
