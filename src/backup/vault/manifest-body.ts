// What a manifest says of a snapshot: its schema, and the check that everything read passes before it is used.

import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import { HostletError } from '../../errors.ts'
import { type Static, Type } from '../../lib/schema.ts'
import { type NodeReference, parseReference, referenceText, treeLevels } from '../format/node.ts'

const strict = { additionalProperties: false } as const
const Uuid = Type.String({ pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' })
const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
/** Milliseconds since the epoch. */
const Timestamp = Type.Integer({ minimum: 0, maximum: 8_640_000_000_000_000 })

/** Most disks of one snapshot. */
export const manifestDisksMax = 16
const StoredDisk = Type.Object(
  {
    role: Type.String({ pattern: '^[a-z][a-z0-9-]{0,30}$' }),
    sizeBytes: Bytes,
    /** Null when the whole disk reads as zeros. */
    root: Type.Union([Type.String({ maxLength: 128 }), Type.Null()]),
    /** 1: the root is a leaf. Each further level stands for one of inner nodes. */
    levels: Type.Integer({ minimum: 1, maximum: 4 }),
    allocatedBytes: Bytes
  },
  strict
)

const StoredBody = Type.Object(
  {
    vm: Type.Object(
      {
        uuid: Uuid,
        name: Type.String({ minLength: 1, maxLength: 63 }),
        /** What the VM is made from again; the engine does not look into it. */
        specification: Type.Unknown()
      },
      strict
    ),
    /** Id of the host that took it; the signer's certificate must bear it. */
    host: Type.String({ pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$' }),
    /** Grows with each snapshot of the vault. */
    sequence: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
    previous: Type.Union([Uuid, Type.Null()]),
    kind: Type.Enum(['full', 'incremental', 'fallback']),
    /** Why it is no incremental one, for people. */
    reason: Type.Optional(Type.String({ maxLength: 4_096 })),
    consistency: Type.Enum(['crash', 'frozen', 'stopped']),
    /** The instant whose content it holds. */
    at: Timestamp,
    finishedAt: Timestamp,
    disks: Type.Array(StoredDisk, { minItems: 1, maxItems: manifestDisksMax }),
    counts: Type.Object(
      { readBytes: Bytes, storedBytes: Bytes, packs: Type.Integer({ minimum: 0 }) },
      strict
    ),
    /** Program and release that wrote it. */
    tool: Type.String({ maxLength: 128 }),
    /** Checkpoint of the hypervisor that was made at the same instant. */
    checkpoint: Type.Optional(Type.String({ maxLength: 256 }))
  },
  strict
)
type StoredBody = Static<typeof StoredBody>

export interface ManifestDisk extends Omit<Static<typeof StoredDisk>, 'root'> {
  readonly root: NodeReference | null
}

/** What a snapshot is: of which VM, when, how, and where the trees of its disks begin. */
export interface ManifestBody extends Omit<StoredBody, 'disks'> {
  readonly disks: readonly ManifestDisk[]
}

let compiled: ValidateFunction<StoredBody> | undefined

/** The body as it is sealed: JSON, each root as a text. Throws E_BAD_REQUEST for what could not be read back. */
export function encodeBody(body: ManifestBody): Buffer {
  const disks = body.disks.map((disk) => ({
    ...disk,
    root: disk.root === null ? null : referenceText(disk.root)
  }))
  const bytes = Buffer.from(JSON.stringify({ ...body, disks }))
  try {
    decodeBody(bytes, 'a new manifest')
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new HostletError('E_BAD_REQUEST', why, { cause })
  }
  return bytes
}

/** Throws E_CORRUPT, naming the place but no content. */
export function decodeBody(bytes: Uint8Array, object: string): ManifestBody {
  const stored = checked(parsed(bytes, object), object)
  const disks = stored.disks.map((disk) => {
    if (disk.levels !== treeLevels(disk.sizeBytes))
      throw damaged(object, `a tree of ${disk.levels} levels for ${disk.sizeBytes} bytes`)
    return { ...disk, root: disk.root === null ? null : parseReference(disk.root, { object }) }
  })
  return { ...stored, disks }
}

function checked(value: unknown, object: string): StoredBody {
  // At first use: who opens no vault need not pay for it.
  compiled ??= new Ajv2020({ strict: true, strictRequired: false }).compile<StoredBody>(StoredBody)
  const accepts = compiled
  if (accepts(value)) return value
  const fault = accepts.errors?.[0]
  throw damaged(object, `at "${fault?.instancePath ?? ''}": ${fault?.message ?? 'does not fit its schema'}`)
}

function parsed(bytes: Uint8Array, object: string): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch (cause) {
    throw damaged(object, 'its body is no JSON', cause)
  }
}

function damaged(object: string, text: string, cause?: unknown): HostletError {
  return new HostletError('E_CORRUPT', `${object}: ${text}`, { cause, details: { reason: 'damaged' } })
}
