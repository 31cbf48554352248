/** RecurringText: reads short texts that come in nearly the same order again and again, without decoding them anew. */
import type { XdrReader } from './reader.ts'

/** Bulk statistics of the largest domains have hundreds of names; beyond this a text is decoded each time. */
const TEXTS_MAX = 4096

interface Entry {
  readonly text: string
  /** Its bytes on the wire, length and padding included, as 32-bit words: comparing them needs no decoding. */
  readonly words: Int32Array
  /** What came after it last time: nearly always what comes after it next time. */
  next: Entry | null
}

export class RecurringText {
  readonly #entries = new Map<string, Entry>()
  #last: Entry | null = null

  /** `decode` reads the text where it is not the expected one, and enforces its bounds. */
  read(reader: XdrReader, decode: (reader: XdrReader) => string): string {
    const expected = this.#last?.next
    if (expected && matches(reader, expected.words)) {
      reader.take(expected.words.length * 4)
      this.#last = expected
      return expected.text
    }
    return this.#learn(reader, decode)
  }

  #learn(reader: XdrReader, decode: (reader: XdrReader) => string): string {
    const start = reader.offset
    const text = decode(reader)
    const entry = this.#entries.get(text) ?? this.#add(reader, text, start)
    if (entry && this.#last) this.#last.next = entry
    this.#last = entry
    return text
  }

  #add(reader: XdrReader, text: string, start: number): Entry | null {
    if (this.#entries.size >= TEXTS_MAX) return null
    const words = new Int32Array((reader.offset - start) / 4)
    for (let index = 0; index < words.length; index++) words[index] = reader.view.getInt32(start + index * 4)
    const entry = { text, words, next: null }
    this.#entries.set(text, entry)
    return entry
  }
}

function matches(reader: XdrReader, words: Int32Array): boolean {
  const { view, offset, end } = reader
  if (words.length * 4 > end - offset) return false
  for (let index = 0; index < words.length; index++) {
    if (view.getInt32(offset + index * 4) !== words[index]) return false
  }
  return true
}
