// What is known of the base images in the pool: their sizes, and during which boot of the host their bytes were checked.

import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Type } from '../../lib/schema.ts'
import { strict } from '../../protocol/names.ts'
import { compile } from '../../protocol/validate.ts'

export interface ImageRecord {
  readonly sizeBytes: number
  readonly virtualSizeBytes: number
  /** The boot of the host in which the stored bytes had the right digest. */
  readonly bootId: string
  /** Milliseconds since the epoch. */
  readonly usedAt: number
}

export const imageRecordsMax = 4_096

const Records = Type.Record(
  Type.String({ maxLength: 128 }),
  Type.Object(
    {
      sizeBytes: Type.Integer({ minimum: 0 }),
      virtualSizeBytes: Type.Integer({ minimum: 0 }),
      bootId: Type.String({ maxLength: 64 }),
      usedAt: Type.Integer({ minimum: 0 })
    },
    strict
  ),
  { maxProperties: imageRecordsMax }
)
const check = compile(Records, 'records of images')

/**
 * A file of JSON, read at the first use. Losing it costs one reading of each image: without a record the bytes in the
 * pool are hashed again, so half an upload is never taken for an image.
 */
export class ImageRecords {
  readonly #path: string
  #records: Promise<Map<string, ImageRecord>> | undefined
  #written: Promise<void> = Promise.resolve()

  constructor({ path }: { path: string }) {
    this.#path = path
  }

  async get(volume: string): Promise<ImageRecord | undefined> {
    return (await this.#loaded()).get(volume)
  }

  async set(volume: string, record: ImageRecord): Promise<void> {
    const records = await this.#loaded()
    // The oldest goes first: a Map keeps the order of insertion.
    records.delete(volume)
    const [oldest] = records.size >= imageRecordsMax ? records.keys() : []
    if (oldest !== undefined) records.delete(oldest)
    records.set(volume, record)
    await this.#write(records)
  }

  async delete(volume: string): Promise<void> {
    const records = await this.#loaded()
    if (records.delete(volume)) await this.#write(records)
  }

  #loaded(): Promise<Map<string, ImageRecord>> {
    this.#records ??= load(this.#path)
    return this.#records
  }

  /** One after the other, each with all that is known by then. A failed one does not stop the next. */
  #write(records: ReadonlyMap<string, ImageRecord>): Promise<void> {
    this.#written = this.#written
      .catch(() => undefined)
      .then(async () => {
        await mkdir(dirname(this.#path), { recursive: true })
        const text = JSON.stringify(Object.fromEntries(records))
        await writeFile(`${this.#path}.new`, text, { mode: 0o600, flush: true })
        await rename(`${this.#path}.new`, this.#path)
      })
    return this.#written
  }
}

async function load(path: string): Promise<Map<string, ImageRecord>> {
  try {
    return new Map(Object.entries(check(JSON.parse(await readFile(path, 'utf8')))))
  } catch {
    // Absent or unreadable: the images are checked anew.
    return new Map()
  }
}
