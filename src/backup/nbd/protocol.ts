// Numbers of the NBD protocol as they stand on the wire (NBD specification, doc/proto.md), and the bounds that we hold a server to.

export const magic = {
  greeting: 0x4e42444d41474943n,
  option: 0x49484156454f5054n,
  optionReply: 0x0003e889045565a9n,
  request: 0x25609513,
  simpleReply: 0x67446698,
  structuredReply: 0x668e33ef
} as const

export const handshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const

export const option = { abort: 2, list: 3, go: 7, structuredReply: 8, setMetaContext: 10 } as const

export const optionReply = { ack: 1, server: 2, info: 3, metaContext: 4, errorBit: 0x8000_0000 } as const

export const optionError = {
  unsupported: 0x8000_0001,
  policy: 0x8000_0002,
  invalid: 0x8000_0003,
  platform: 0x8000_0004,
  tlsRequired: 0x8000_0005,
  unknownExport: 0x8000_0006,
  shutdown: 0x8000_0007,
  blockSizeRequired: 0x8000_0008,
  tooBig: 0x8000_0009
} as const

export const info = { export: 0, blockSize: 3 } as const

export const transmissionFlag = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendWriteZeroes: 1 << 6,
  multipleConnections: 1 << 8
} as const

export const command = { read: 0, write: 1, disconnect: 2, flush: 3, writeZeroes: 6, blockStatus: 7 } as const

export const replyFlagDone = 1

export const chunk = {
  none: 0,
  data: 1,
  hole: 2,
  blockStatus: 5,
  errorBit: 0x8000,
  error: 0x8001,
  errorAtOffset: 0x8002
} as const

export const errorNumber = {
  permission: 1,
  inputOutput: 5,
  memory: 12,
  invalid: 22,
  space: 28,
  overflow: 75,
  unsupported: 95,
  shutdown: 108
} as const

/** Bits of the context `base:allocation`. Only the second says what the bytes are. */
export const allocationFlag = { hole: 1, zero: 2 } as const
/** The only bit of a context `qemu:dirty-bitmap:…`. */
export const dirtyFlag = 1

export const allocationContext = 'base:allocation'
export const dirtyBitmapContext = (bitmap: string): string => `qemu:dirty-bitmap:${bitmap}`

/** Longest name or message of the protocol, in bytes. */
export const stringBytesMax = 4_096
/** Payload of one reply to an option; names and descriptions fit many times. */
export const optionReplyBytesMax = 65_536
/** Replies to one option, of which a list of exports may have many. */
export const optionRepliesMax = 1_024
export const contextsMax = 16
/** Largest disk: what a Number holds exactly, down to whole blocks of any size we ask for. */
export const exportBytesMax = Number.MAX_SAFE_INTEGER - 0xffff_ffff
/** What a server must take where it states no maximum (NBD specification, 'Block size constraints'). */
export const payloadBytesMaxDefault = 32 * 1024 * 1024
/** Smallest maximum that we work with: less makes every read thousands of requests. */
export const payloadBytesMaxLeast = 4_096
/** Chunks of one reply: 32 MiB in sectors. */
export const chunksPerReplyMax = 65_536
/** Extents in one chunk, by the specification's advice to servers. */
export const statusExtentsMax = 1_048_576
/** Extents that we keep of them; the rest is asked again, so that memory stays small. */
export const statusExtentsKeptMax = 32_768
