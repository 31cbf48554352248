// Inputs that are almost right: what a parser was seen to take, changed a little, and always the same way for a seed.

/** Numbers in [0, 1), the same for a seed everywhere. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Where parsers go wrong: ends of ranges, lengths that lie, words with a meaning, brackets that never close. */
const words = [
  ...[
    '',
    '\0',
    '"',
    '\\',
    '{',
    '[',
    '{"a":',
    '[[[[[[[[',
    '*a',
    '&a',
    '<<: ',
    '!!js/function ',
    '.',
    '..',
    '%',
    '-',
    '\n'
  ],
  ...[
    'null',
    'true',
    'NaN',
    '1e999',
    '-1',
    '0',
    '2147483648',
    '18446744073709551615',
    '\ud800',
    '\u202e',
    'é'
  ],
  ...['__proto__', 'constructor', 'toString', 'none', 'HS256', 'crit', 'jwk', 'type', 'command']
].map((word) => Buffer.from(word))
const numbers = [0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff]

type Change = (bytes: Buffer, random: () => number, other: Buffer) => Buffer

const changes: readonly Change[] = [
  // One bit.
  (bytes, random) => {
    const copy = Buffer.from(bytes)
    const at = below(random, copy.length)
    if (copy.length > 0) copy[at] = (copy[at] ?? 0) ^ (1 << below(random, 8))
    return copy
  },
  // One byte.
  (bytes, random) => {
    const copy = Buffer.from(bytes)
    if (copy.length > 0) copy[below(random, copy.length)] = below(random, 256)
    return copy
  },
  // A number of 32 bits, which may be a length.
  (bytes, random) => {
    if (bytes.length < 4) return bytes
    const copy = Buffer.from(bytes)
    copy.writeUInt32BE(numbers[below(random, numbers.length)] ?? 0, below(random, copy.length - 3))
    return copy
  },
  (bytes, random) => bytes.subarray(0, below(random, bytes.length + 1)),
  (bytes, random) => {
    const [from, to] = span(bytes, random)
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)])
  },
  (bytes, random) => {
    const [from, to] = span(bytes, random)
    return Buffer.concat([bytes.subarray(0, to), bytes.subarray(from)])
  },
  (bytes, random) => {
    const at = below(random, bytes.length + 1)
    return Buffer.concat([
      bytes.subarray(0, at),
      words[below(random, words.length)] ?? Buffer.alloc(0),
      bytes.subarray(at)
    ])
  },
  (bytes, random) => {
    const [from, to] = span(bytes, random)
    return Buffer.concat([
      bytes.subarray(0, from),
      words[below(random, words.length)] ?? Buffer.alloc(0),
      bytes.subarray(to)
    ])
  },
  // The end of another one.
  (bytes, random, other) =>
    Buffer.concat([
      bytes.subarray(0, below(random, bytes.length + 1)),
      other.subarray(below(random, other.length + 1))
    ])
]

/** One to four changes to one of the corpus. */
export function mutant(corpus: readonly Buffer[], random: () => number): Buffer {
  const pick = () => corpus[below(random, corpus.length)] ?? Buffer.alloc(0)
  let bytes = pick()
  for (let left = 1 + below(random, 4); left > 0; left--)
    bytes = changes[below(random, changes.length)]?.(bytes, random, pick()) ?? bytes
  return bytes
}

function span(bytes: Buffer, random: () => number): [number, number] {
  const from = below(random, bytes.length + 1)
  return [from, Math.min(bytes.length, from + 1 + below(random, 16))]
}

function below(random: () => number, bound: number): number {
  return Math.floor(random() * Math.max(1, bound))
}
