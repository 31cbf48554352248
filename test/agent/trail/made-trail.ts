// Trails made for tests: entries in files that lie in memory, and their lines with the place of each.

import type { Segment } from '../../../src/agent/trail/segments.ts'
import { segmentName } from '../../../src/agent/trail/segments.ts'
import { type EntryFields, type Link, origin, sealEntry } from '../../../src/lib/chain.ts'

export interface MadeFile {
  name: string
  lines: string[]
}

export interface MadeTrail {
  readonly files: MadeFile[]
  /** Of every entry, in order. */
  readonly links: readonly Link[]
}

/** `sizes`: entries of each file. */
export function madeTrail(
  sizes: readonly number[],
  fieldsOf: (seq: number) => EntryFields = (seq) => ({ vm: `web-${seq}` })
): MadeTrail {
  let tail = origin
  const links: Link[] = []
  const files = sizes.map((size) => {
    const name = segmentName(tail.seq + 1)
    const lines = Array.from({ length: size }, () => {
      const fields = fieldsOf(tail.seq + 1)
      const sealed = sealEntry({ at: 1_000 + tail.seq, kind: 'command.accepted', fields }, tail)
      tail = sealed.link
      links.push(tail)
      return sealed.line
    })
    return { name, lines }
  })
  return { files, links }
}

export function contentOf({ lines }: MadeFile): Buffer {
  return Buffer.from(lines.map((line) => `${line}\n`).join(''))
}

export class MemoryTrail {
  readonly contents = new Map<string, Buffer>()

  constructor(files: readonly MadeFile[]) {
    for (const file of files) this.contents.set(file.name, contentOf(file))
  }

  get segments(): Segment[] {
    return [...this.contents.keys()]
      .sort()
      .map((name) => ({ name, path: name, first: Number.parseInt(name, 10) }))
  }

  read(segment: Segment): Buffer {
    return this.contents.get(segment.name) ?? Buffer.alloc(0)
  }
}

export interface Place {
  readonly file: string
  readonly line: number
  readonly offset: number
}

/** Where the nth line of all (from 0) begins; past the last one, the end of the last file. */
export function placeOfLine(files: readonly MadeFile[], index: number): Place {
  let left = index
  for (const { name, lines } of files) {
    if (left < lines.length) {
      const offset = lines.slice(0, left).reduce((sum, line) => sum + Buffer.byteLength(line) + 1, 0)
      return { file: name, line: left + 1, offset }
    }
    left -= lines.length
  }
  throw new Error(`there is no line ${index}`)
}
