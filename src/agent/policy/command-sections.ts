// The part of the policy that is about commands: what this host does for nobody, how much of it, and for whom only together.

import { type Static, Type } from '../../lib/schema.ts'
import { AbsolutePath, Bytes, Cidr, strict } from '../../protocol/names.ts'
import { exactlyOne, type Fault } from './backup-sections.ts'
import { VerbPatterns, VmPatterns } from './patterns.ts'

export const approversMax = 64
export const rulesMax = 64
/** Commands that one rate counts: what is remembered of them is bounded by it. */
export const rateMax = 10_000
export const ratePeriodMsMax = 31 * 86_400_000

const Duration = Type.String({
  pattern: '^[1-9][0-9]{0,6}(s|m|h|d)$',
  description: 'a time such as 90s, 15m, 1h or 7d'
})
const ImagePattern = Type.String({
  pattern: '^(https://[a-z0-9.-]+(:[0-9]{1,5})?|file://)/[^\\s<>"\'`{}|\\\\^#?]*$',
  maxLength: 2_048,
  description:
    'an https:// address, or file:// and a path, in which * stands for any characters of the path, such as https://images.example.org/*'
})
const PortRange = Type.String({
  pattern: '^[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})?$',
  description: 'a port such as 443, or a range of them such as 20000-20999'
})
const Sha256 = Type.String({ pattern: '^[0-9a-f]{64}$', description: '64 hexadecimal digits in lowercase' })
const Amount = Type.Integer({ minimum: 0, maximum: 1_000_000 })

const Sizes = {
  cpusMax: Type.Optional(Amount),
  memoryBytesMax: Type.Optional(Bytes),
  /** Of root and data disk together. */
  diskBytesMax: Type.Optional(Bytes)
}

const ApproverKey = Type.Object(
  {
    kty: Type.Literal('OKP'),
    crv: Type.Literal('Ed25519'),
    x: Type.String({
      pattern: '^[A-Za-z0-9_-]{43}$',
      description: 'an Ed25519 key as 43 characters of base64url'
    }),
    kid: Type.Optional(Type.String({ maxLength: 256 })),
    alg: Type.Optional(Type.String({ maxLength: 64 })),
    use: Type.Optional(Type.String({ maxLength: 16 })),
    /** As `hostlet approver keygen` writes it; the name in the policy is what counts. */
    approver: Type.Optional(Type.String({ maxLength: 64 }))
  },
  strict
)
/** A public key: the path of its JWK, or the JWK itself. */
const Approver = Type.Object({ file: Type.Optional(AbsolutePath), jwk: Type.Optional(ApproverKey) }, strict)
export type ApproverSource = Static<typeof Approver>

export const CommandSections = Type.Object(
  {
    /** Verbs that are refused, whoever signs them. */
    forbid: Type.Array(VerbPatterns.items, { default: [], maxItems: rulesMax }),
    /** An image has to fit each of the two that is there. */
    images: Type.Optional(
      Type.Object(
        {
          allow: Type.Optional(Type.Array(ImagePattern, { maxItems: 256 })),
          digests: Type.Optional(Type.Array(Sha256, { maxItems: 4_096 }))
        },
        { ...strict, minProperties: 1 }
      )
    ),
    limits: Type.Optional(
      Type.Object(
        {
          /** Of each VM. */
          vm: Type.Optional(Type.Object(Sizes, strict)),
          /** Of all VMs of the host together. */
          host: Type.Optional(Type.Object({ ...Sizes, vmsMax: Type.Optional(Amount) }, strict)),
          portMappings: Type.Optional(
            Type.Object(
              {
                perVmMax: Type.Optional(Type.Integer({ minimum: 0, maximum: 64 })),
                hostPorts: Type.Optional(Type.Array(PortRange, { maxItems: 64 })),
                /** A mapping has to name sources, and each has to lie within these. */
                sources: Type.Optional(Type.Array(Cidr, { maxItems: 256 }))
              },
              strict
            )
          )
        },
        strict
      )
    ),
    /** Of each rule that fits, the strictest counts. */
    teardown: Type.Array(
      Type.Object(
        {
          vms: Type.Optional(VmPatterns),
          /** A VM is torn down only where it is kept for so many days at least. */
          requireRetainDays: Type.Optional(Type.Integer({ minimum: 1, maximum: 3_650 })),
          /** Its backups stay. */
          keepBackups: Type.Optional(Type.Boolean())
        },
        strict
      ),
      { default: [], maxItems: rulesMax }
    ),
    rates: Type.Array(
      Type.Object(
        {
          verbs: VerbPatterns,
          vms: Type.Optional(VmPatterns),
          max: Type.Integer({ minimum: 0, maximum: rateMax }),
          per: Duration
        },
        strict
      ),
      { default: [], maxItems: rulesMax }
    ),
    approvals: Type.Optional(
      Type.Object(
        {
          approvers: Type.Record(
            Type.String({
              pattern: '^[a-z][a-z0-9.-]{0,62}$',
              description: 'a name of lowercase letters, digits, dots and hyphens'
            }),
            Approver,
            { ...strict, minProperties: 1, maxProperties: approversMax }
          ),
          require: Type.Array(
            Type.Object(
              {
                verbs: VerbPatterns,
                vms: Type.Optional(VmPatterns),
                count: Type.Integer({ minimum: 1, maximum: 8, default: 1 }),
                /** Whose approvals count; those of all where it is left out. */
                of: Type.Optional(Type.Array(Type.String({ maxLength: 64 }), { minItems: 1, maxItems: 64 }))
              },
              strict
            ),
            { minItems: 1, maxItems: rulesMax }
          )
        },
        strict
      )
    )
  },
  strict
)
export type CommandPolicy = Static<typeof CommandSections>
export type Approvals = NonNullable<CommandPolicy['approvals']>
export type RateRule = CommandPolicy['rates'][number]

const unitMs = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** Milliseconds of `90s`, `15m`, `1h` or `7d`. */
export function durationMs(text: string): number {
  return Number(text.slice(0, -1)) * unitMs[text.slice(-1) as keyof typeof unitMs]
}

/** First and last port of `443` or `20000-20999`. */
export function portRangeOf(text: string): { readonly from: number; readonly to: number } {
  const [from = '', to = from] = text.split('-')
  return { from: Number(from), to: Number(to) }
}

/** What the schema cannot say. */
export function commandFaults(commands: CommandPolicy): Fault[] {
  const { limits, rates, teardown, approvals } = commands
  const ports = limits?.portMappings?.hostPorts ?? []
  return [
    ...ports.flatMap((text, index) => portFault(text, String(index))),
    ...rates.flatMap(({ per }, index) =>
      durationMs(per) <= ratePeriodMsMax ? [] : [fault(['rates', String(index), 'per'], 'at most 31d')]
    ),
    ...teardown.flatMap((rule, index) =>
      rule.requireRetainDays === undefined && rule.keepBackups === undefined
        ? [fault(['teardown', String(index)], 'requireRetainDays, keepBackups or both')]
        : []
    ),
    ...(approvals === undefined ? [] : approvalFaults(approvals))
  ]
}

function approvalFaults({ approvers, require }: Approvals): Fault[] {
  const names = Object.keys(approvers)
  return [
    ...Object.entries(approvers).flatMap(([name, source]) =>
      exactlyOne(['commands', 'approvals', 'approvers', name], source, ['file', 'jwk'])
    ),
    ...sharedKeys(approvers),
    ...require.flatMap(({ count, of = names }, index) => [
      ...of
        .filter((name) => !names.includes(name))
        .map((name) =>
          fault(['approvals', 'require', String(index), 'of'], `names of "approvers", not "${name}"`)
        ),
      ...(new Set(of).size < count
        ? [
            fault(
              ['approvals', 'require', String(index), 'count'],
              `at most ${new Set(of).size}: there are no more approvers`
            )
          ]
        : [])
    ])
  ]
}

/** One person under two names would count twice. */
function sharedKeys(approvers: Approvals['approvers']): Fault[] {
  const known = new Map<string, string>()
  return Object.entries(approvers).flatMap(([name, { jwk, file }]) => {
    const key = jwk?.x ?? file ?? ''
    const other = known.get(key)
    known.set(key, other ?? name)
    return other === undefined
      ? []
      : [fault(['approvals', 'approvers', name], `another key than that of "${other}"`)]
  })
}

function portFault(text: string, index: string): Fault[] {
  const { from, to } = portRangeOf(text)
  const good = from <= to && to <= 65_535
  return good
    ? []
    : [fault(['limits', 'portMappings', 'hostPorts', index], 'ports of 1 to 65535, the first one first')]
}

function fault(at: readonly string[], text: string): Fault {
  return { at: ['commands', ...at], text: `expected ${text}` }
}
