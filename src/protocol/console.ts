// The serial console: what a grant says, the binary frames between agent and scheduler, and the messages of an operator's socket.

import { HostletError } from '../errors.ts'
import { type Static, Type } from '../lib/schema.ts'
import { HostId, Milliseconds, ShortText, strict, Uuid, VmName } from './names.ts'

export const consoleFrameVersion = 1
/** Version, type, and the session's UUID. */
export const consoleHeaderBytes = 18
/** Bytes of one data frame. */
export const consoleDataBytesMax = 16 * 1024
/** Bytes that may be under way in one direction of a session and were not credited. */
export const consoleWindowBytes = 64 * 1024
/** Longest frame of any type. */
export const consoleFrameBytesMax = consoleHeaderBytes + consoleDataBytesMax
/** Path of the operator's socket on the scheduler; the session's id follows. */
export const consoleSocketPath = '/v1/console/'
/** Subprotocol of the operator's socket. */
export const consoleSubprotocol = 'hostlet-console.v1'
/** How long a session that is open waits for its operator. */
export const consoleAttachMs = 30_000

export const consoleModes = ['write', 'read'] as const
export const ConsoleMode = Type.Enum([...consoleModes])
export type ConsoleMode = Static<typeof ConsoleMode>

/** Why a session ended. */
export const consoleEndings = [
  /** The operator left. */
  'left',
  /** The VM is off. */
  'off',
  /** Nothing was typed, or for who only watches nothing shown, for too long. */
  'idle',
  /** It was open for as long as a session may be. */
  'longest',
  /** Another operator took the console over. */
  'taken',
  /** What the guest sent was not taken. */
  'slow',
  /** Nobody attached in time. */
  'unattached',
  /** The connection between agent and scheduler, or between operator and scheduler, was lost. */
  'lost',
  /** Agent or scheduler stops. */
  'stopping',
  /** libvirt ended the stream while the VM runs. */
  'libvirt',
  /** The key of the operator is not good any more. */
  'revoked',
  /** A side broke the rules of the frames. */
  'protocol',
  /** The other side knows of no such session. */
  'unknown'
] as const
export type ConsoleEnding = (typeof consoleEndings)[number]

const EndMessage = Type.String({ maxLength: 1_024 })
/** Why a session ended, in a word and in a sentence: the payload of a close frame, and of `closed`. */
export const ConsoleEnd = Type.Object({ why: Type.Enum([...consoleEndings]), message: EndMessage }, strict)
export type ConsoleEnd = Static<typeof ConsoleEnd>

const shortestMs = 1_000
/** Longest times that a command may ask for; those of the host's configuration hold besides. */
const SessionMs = Type.Integer({ minimum: shortestMs, maximum: 86_400_000 })

/** Arguments of `vm.console`: the grant. */
export const VmConsoleParams = Type.Object(
  {
    vm: VmName,
    /** Of that VM and of no other that has its name later. */
    uuid: Uuid,
    session: Uuid,
    /** One session writes; `read` shows what the guest sends and takes nothing. */
    mode: ConsoleMode,
    /** Who has asked, as the scheduler knows them: told to whoever finds the console taken, and in the audit trail. */
    by: ShortText,
    /** Ends the session of who writes now, and a console that is open on the host itself. */
    takeOver: Type.Optional(Type.Boolean()),
    idleMs: Type.Optional(SessionMs),
    longestMs: Type.Optional(SessionMs)
  },
  strict
)
export type VmConsoleParams = Static<typeof VmConsoleParams>

export const VmConsoleResult = Type.Object(
  {
    vm: VmName,
    session: Uuid,
    mode: ConsoleMode,
    /** What holds for the session: the shorter of what was asked for and what the host allows. */
    idleMs: Milliseconds,
    longestMs: Milliseconds,
    /** How long the session waits for its operator. */
    attachMs: Milliseconds
  },
  strict
)
export type VmConsoleResult = Static<typeof VmConsoleResult>

/** Body of `POST /v1/vms/{name}/console`. */
export const ConsoleRequest = Type.Object(
  {
    mode: Type.Optional(ConsoleMode),
    takeOver: Type.Optional(Type.Boolean()),
    idleMs: Type.Optional(SessionMs),
    longestMs: Type.Optional(SessionMs)
  },
  strict
)

/** Random, of 256 bits: opens the session once, to who asked for it. */
export const ConsoleTicket = Type.String({ pattern: '^hlc_[A-Za-z0-9_-]{43}$' })

const Window = Type.Integer({ minimum: 1, maximum: consoleWindowBytes })

/** Text messages of the operator; binary ones are what is typed. */
export const ConsoleAttach = Type.Object({ type: Type.Literal('attach'), ticket: ConsoleTicket }, strict)
/** So many bytes of output were taken. */
export const ConsoleCredit = Type.Object({ type: Type.Literal('credit'), bytes: Window }, strict)
export const operatorMessages = [ConsoleAttach, ConsoleCredit] as const
export type OperatorMessage = Static<(typeof operatorMessages)[number]>

/** Text messages to the operator; binary ones are what the guest sends. */
export const ConsoleAttached = Type.Object(
  {
    type: Type.Literal('attached'),
    vm: VmName,
    host: HostId,
    mode: ConsoleMode,
    idleMs: Milliseconds,
    longestMs: Milliseconds,
    /** Bytes that may be under way in each direction. */
    windowBytes: Type.Integer({ minimum: 1 })
  },
  strict
)
export type ConsoleAttached = Static<typeof ConsoleAttached>
export const ConsoleClosed = Type.Object({ type: Type.Literal('closed'), ...ConsoleEnd.properties }, strict)
export const consoleMessages = [ConsoleAttached, ConsoleCredit, ConsoleClosed] as const
export type ConsoleMessage = Static<(typeof consoleMessages)[number]>

/** A frame between agent and scheduler. */
export type ConsoleFrame =
  | { readonly type: 'data'; readonly session: Uuid; readonly data: Buffer }
  | { readonly type: 'credit'; readonly session: Uuid; readonly bytes: number }
  | ({ readonly type: 'close'; readonly session: Uuid } & ConsoleEnd)

const typeNumbers = { data: 1, credit: 2, close: 3 } as const
const closeBytesMax = 8 * 1024

/** Throws E_INTERNAL where the frame would break its own rules. */
export function encodeConsoleFrame(frame: ConsoleFrame): Buffer {
  const payload = payloadOf(frame)
  const bytes = Buffer.alloc(consoleHeaderBytes + payload.length)
  bytes[0] = consoleFrameVersion
  bytes[1] = typeNumbers[frame.type]
  bytes.write(frame.session.replaceAll('-', ''), 2, 'hex')
  payload.copy(bytes, consoleHeaderBytes)
  return bytes
}

/** Throws E_BAD_REQUEST for what is no such frame. The data of a frame is a view of the bytes. */
export function decodeConsoleFrame(bytes: Buffer): ConsoleFrame {
  if (bytes.length <= consoleHeaderBytes) throw fault(`${bytes.length} bytes, expected more than its header`)
  if (bytes.length > consoleFrameBytesMax)
    throw fault(`${bytes.length} bytes, expected at most ${consoleFrameBytesMax}`)
  if (bytes[0] !== consoleFrameVersion)
    throw fault(`version ${bytes[0]}, expected ${consoleFrameVersion}. Upgrade the older of the two`)
  const session = uuidText(bytes.subarray(2, consoleHeaderBytes))
  const payload = bytes.subarray(consoleHeaderBytes)
  switch (bytes[1]) {
    case typeNumbers.data:
      return { type: 'data', session, data: payload }
    case typeNumbers.credit:
      return { type: 'credit', session, bytes: readCredit(payload) }
    case typeNumbers.close:
      return { type: 'close', session, ...readEnd(payload) }
    default:
      throw fault(`type ${bytes[1]}, which does not exist`)
  }
}

/** What a frame carries, cut into pieces that fit one each. */
export function* consolePieces(data: Buffer): Generator<Buffer> {
  for (let at = 0; at < data.length; at += consoleDataBytesMax)
    yield data.subarray(at, at + consoleDataBytesMax)
}

function payloadOf(frame: ConsoleFrame): Buffer {
  switch (frame.type) {
    case 'data':
      if (frame.data.length === 0 || frame.data.length > consoleDataBytesMax)
        throw new HostletError('E_INTERNAL', `console frame with ${frame.data.length} bytes of data`)
      return frame.data
    case 'credit': {
      const payload = Buffer.alloc(4)
      payload.writeUInt32BE(frame.bytes)
      return payload
    }
    case 'close':
      return Buffer.from(JSON.stringify({ why: frame.why, message: frame.message.slice(0, 1_024) }))
    default:
      return frame satisfies never
  }
}

function readCredit(payload: Buffer): number {
  if (payload.length !== 4) throw fault(`a credit of ${payload.length} bytes, expected 4`)
  const bytes = payload.readUInt32BE()
  if (bytes >= 1 && bytes <= consoleWindowBytes) return bytes
  throw fault(`a credit for ${bytes} bytes, expected 1 to ${consoleWindowBytes}`)
}

function readEnd(payload: Buffer): ConsoleEnd {
  if (payload.length > closeBytesMax) throw fault(`an end of ${payload.length} bytes`)
  const value = parsed(payload.toString('utf8'))
  const { why, message, ...others } = (value ?? {}) as Readonly<Record<string, unknown>>
  const known = consoleEndings.find((each) => each === why)
  if (known === undefined || typeof message !== 'string' || Object.keys(others).length > 0)
    throw fault('an end that does not say why')
  return { why: known, message: message.slice(0, 1_024) }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw fault('an end that is not JSON', cause)
  }
}

function uuidText(bytes: Buffer): Uuid {
  const hex = bytes.toString('hex')
  return [
    [0, 8],
    [8, 12],
    [12, 16],
    [16, 20],
    [20, 32]
  ]
    .map(([from, to]) => hex.slice(from, to))
    .join('-')
}

function fault(what: string, cause?: unknown): HostletError {
  return new HostletError('E_BAD_REQUEST', `console frame: ${what}`, { cause })
}
