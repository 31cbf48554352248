// Whether a passphrase opens a LUKS header: computed here, so that the passphrase is in no file and in no other process.

import { createDecipheriv, createHash, pbkdf2, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { HostletError } from '../../errors.ts'

/** Source of all numbers: LUKS On-Disk Format Specification 1.2.3. */
const magic = Buffer.from('LUKS\xba\xbe', 'latin1')
const at = {
  version: 6,
  cipherName: 8,
  cipherMode: 40,
  hash: 72,
  keyBytes: 108,
  digest: 112,
  digestSalt: 132,
  digestIterations: 164,
  slots: 208
} as const
const slotBytes = 48
const slotsMax = 8
const slotInUse = 0x00ac71f3
const digestBytes = 20
const saltBytes = 32
const sectorBytes = 512
/** As QEMU makes them; see luks-format.ts. */
const made = {
  version: 1,
  cipherName: 'aes',
  cipherMode: 'xts-plain64',
  hash: 'sha256',
  keyBytes: 64
} as const
/** Our headers have a few thousand; a damaged one must not keep a CPU busy for hours. */
const iterationsMax = 20_000_000
const stripesMax = 8_000

const derive = promisify(pbkdf2)

interface Slot {
  readonly iterations: number
  readonly salt: Buffer
  readonly materialOffset: number
  readonly stripes: number
}

/** `header` reaches to the end of its key material. Throws E_CORRUPT for one that is not as QEMU makes them. */
export async function opensLuks(header: Buffer, passphrase: string): Promise<boolean> {
  requireMade(header)
  for (const slot of slotsOf(header))
    if (await isMasterKey(header, await masterKeyOf(header, slot, passphrase))) return true
  return false
}

function requireMade(header: Buffer): void {
  const text = (offset: number) => header.toString('latin1', offset, offset + 32).replace(/\0.*$/s, '')
  const isMade =
    header.length >= at.slots + slotsMax * slotBytes &&
    header.subarray(0, magic.length).equals(magic) &&
    header.readUInt16BE(at.version) === made.version &&
    text(at.cipherName) === made.cipherName &&
    text(at.cipherMode) === made.cipherMode &&
    text(at.hash) === made.hash &&
    header.readUInt32BE(at.keyBytes) === made.keyBytes
  if (!isMade) throw damaged()
}

function slotsOf(header: Buffer): Slot[] {
  return Array.from({ length: slotsMax }, (_, index) => at.slots + index * slotBytes)
    .filter((offset) => header.readUInt32BE(offset) === slotInUse)
    .map((offset) => ({
      iterations: iterationsAt(header, offset + 4),
      salt: header.subarray(offset + 8, offset + 8 + saltBytes),
      materialOffset: header.readUInt32BE(offset + 40) * sectorBytes,
      stripes: header.readUInt32BE(offset + 44)
    }))
}

function iterationsAt(header: Buffer, offset: number): number {
  const iterations = header.readUInt32BE(offset)
  if (iterations < 1 || iterations > iterationsMax) throw damaged()
  return iterations
}

/** What the slot holds if the passphrase is right; anything else otherwise. */
async function masterKeyOf(
  header: Buffer,
  { iterations, salt, materialOffset, stripes }: Slot,
  passphrase: string
): Promise<Buffer> {
  const end = materialOffset + stripes * made.keyBytes
  if (stripes < 1 || stripes > stripesMax || end > header.length) throw damaged()
  const key = await derive(passphrase, salt, iterations, made.keyBytes, made.hash)
  const material = header.subarray(materialOffset, end)
  const plain = Buffer.concat(
    Array.from({ length: Math.ceil(material.length / sectorBytes) }, (_, sector) =>
      decryptSector(material.subarray(sector * sectorBytes, (sector + 1) * sectorBytes), key, sector)
    )
  )
  return merged(plain, stripes)
}

function decryptSector(content: Buffer, key: Buffer, sector: number): Buffer {
  const tweak = Buffer.alloc(16)
  tweak.writeBigUInt64LE(BigInt(sector))
  const decipher = createDecipheriv('aes-256-xts', key, tweak)
  return Buffer.concat([decipher.update(content), decipher.final()])
}

/** The anti-forensic splitter backwards (section 2.4). */
function merged(material: Buffer, stripes: number): Buffer {
  let block = Buffer.alloc(made.keyBytes)
  for (let stripe = 0; stripe < stripes; stripe++) {
    const part = material.subarray(stripe * made.keyBytes, (stripe + 1) * made.keyBytes)
    block = Buffer.from(block.map((byte, index) => byte ^ (part[index] ?? 0)))
    if (stripe < stripes - 1) block = diffused(block)
  }
  return block
}

function diffused(block: Buffer): Buffer<ArrayBuffer> {
  const hashBytes = 32
  const parts = Array.from({ length: block.length / hashBytes }, (_, index) => {
    const number = Buffer.alloc(4)
    number.writeUInt32BE(index)
    const part = block.subarray(index * hashBytes, (index + 1) * hashBytes)
    return createHash(made.hash).update(number).update(part).digest()
  })
  return Buffer.concat(parts)
}

async function isMasterKey(header: Buffer, candidate: Buffer): Promise<boolean> {
  const salt = header.subarray(at.digestSalt, at.digestSalt + saltBytes)
  const iterations = iterationsAt(header, at.digestIterations)
  const digest = await derive(candidate, salt, iterations, digestBytes, made.hash)
  return timingSafeEqual(digest, header.subarray(at.digest, at.digest + digestBytes))
}

function damaged(): HostletError {
  return new HostletError('E_CORRUPT', 'the header of the encrypted disk is not as hostlet makes them')
}
