// Where the wrapped keys of disks lie: a file each in the state directory, or in memory for those that the scheduler keeps.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { HostletError } from '../../errors.ts'
import { ensurePrivateDirectory, writePrivateFile } from '../../lib/private-file.ts'
import { replacePrivateFile, shredFile, shredLeftovers } from '../../lib/shred.ts'

export interface KeyShelf {
  /** Where a key lies, for errors. */
  place(id: string): string
  prepare(): void
  ids(): string[]
  read(id: string): string | undefined
  /** What was there before is destroyed. */
  write(id: string, text: string): void
  /** False when there was none. */
  destroy(id: string): boolean
}

const suffix = '.json'

export class FileShelf implements KeyShelf {
  readonly #directory: string

  constructor(directory: string) {
    this.#directory = directory
  }

  place(id: string): string {
    return join(this.#directory, `${id}${suffix}`)
  }

  prepare(): void {
    ensurePrivateDirectory(this.#directory)
    shredLeftovers(this.#directory)
  }

  ids(): string[] {
    if (!existsSync(this.#directory)) return []
    return readdirSync(this.#directory)
      .filter((name) => name.endsWith(suffix) && !name.startsWith('.'))
      .map((name) => name.slice(0, -suffix.length))
  }

  read(id: string): string | undefined {
    const path = this.place(id)
    try {
      return readFileSync(path, 'utf8')
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw new HostletError('E_UNAVAILABLE', `${path} cannot be read`, { cause })
    }
  }

  write(id: string, text: string): void {
    if (existsSync(this.place(id))) replacePrivateFile(this.place(id), text)
    else writePrivateFile(this.place(id), text)
  }

  destroy(id: string): boolean {
    return shredFile(this.place(id))
  }
}

/** Forgotten with the process. */
export class MemoryShelf implements KeyShelf {
  readonly #texts = new Map<string, string>()

  place(id: string): string {
    return `what the scheduler has of key ${id}`
  }

  prepare(): void {
    this.#texts.clear()
  }

  ids(): string[] {
    return [...this.#texts.keys()]
  }

  read(id: string): string | undefined {
    return this.#texts.get(id)
  }

  write(id: string, text: string): void {
    this.#texts.set(id, text)
  }

  destroy(id: string): boolean {
    return this.#texts.delete(id)
  }
}
