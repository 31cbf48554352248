// What is told of a VM before anybody changes it: what was asked for, and what a command would do on its host.

import { type Static, Type } from '../lib/schema.ts'
import { BackupSchedule } from './backup.ts'
import { ErrorReportSchema } from './command.ts'
import { Sentence, ShortText, strict, Uuid, VerbName, VmName } from './names.ts'
import { VmSpecification, VmSummary } from './vm.ts'

/** Longest difference, and longest definition, of a domain that is told. */
export const planTextMax = 128 * 1024
export const planLinesMax = 256

const Lines = Type.Array(Sentence, { maxItems: planLinesMax })
const Text = Type.String({ maxLength: planTextMax })

/** The command as it would be sent; its generation is the host's to tell. */
export const PlanParams = Type.Object(
  {
    verb: VerbName,
    arguments: Type.Record(Type.String({ maxLength: 64 }), Type.Unknown()),
    subject: Type.Optional(Type.Object({ vm: VmName, uuid: Uuid }, strict))
  },
  strict
)
export type PlanParams = Static<typeof PlanParams>

/** Of the host's memory, cores and disks: what it takes, negative where it gives some back, and what there is. */
export const PlannedNeed = Type.Object(
  {
    what: ShortText,
    unit: Type.Enum(['bytes', 'cores', 'vCPUs']),
    needed: Type.Number(),
    free: Type.Number()
  },
  strict
)
export type PlannedNeed = Static<typeof PlannedNeed>

const Difference = Type.Object({ added: Lines, removed: Lines }, strict)

/** What a verb itself foresees. */
export const Foreseen = Type.Object(
  {
    /** False where everything is as it is asked to be already. */
    changes: Type.Boolean(),
    /** libvirt's definition of the machine, in a form of its own for people: attributes sorted, metadata spread out. */
    domain: Type.Optional(
      Type.Object(
        {
          /** Unified. Empty where the definition stays as it is. */
          diff: Text,
          /** Absent where there would be none any more. */
          after: Type.Optional(Text)
        },
        strict
      )
    ),
    needs: Type.Optional(Type.Array(PlannedNeed, { maxItems: 16 })),
    /** Ports of the host. */
    ports: Type.Optional(Difference),
    /** What the network rules of the VM say, and how many of nftables' own that is. */
    firewall: Type.Optional(
      Type.Object(
        { ...Difference.properties, rulesAdded: Type.Integer(), rulesRemoved: Type.Integer() },
        strict
      )
    ),
    /** What else there is to know, a sentence each. */
    remarks: Type.Optional(Lines)
  },
  strict
)
export type Foreseen = Static<typeof Foreseen>

export const policyVerdicts = ['allowed', 'approval', 'refused'] as const
/** What the host's policy would say now. */
export const PolicyForecast = Type.Object(
  { verdict: Type.Enum([...policyVerdicts]), text: Type.Optional(Sentence) },
  strict
)
export type PolicyForecast = Static<typeof PolicyForecast>

export const Plan = Type.Object(
  {
    ...Foreseen.properties,
    verb: VerbName,
    vm: Type.Optional(VmName),
    /** Of the VM: as its host knows it, and as it would be then. */
    generation: Type.Optional(
      Type.Object({ now: Type.Integer({ minimum: 0 }), next: Type.Integer({ minimum: 1 }) }, strict)
    ),
    steps: Type.Array(ShortText, { maxItems: 64 }),
    policy: PolicyForecast,
    /** Why the host would not take it as things are. Then nothing else is foreseen. */
    refusal: Type.Optional(ErrorReportSchema)
  },
  strict
)
export type Plan = Static<typeof Plan>

/** The result of vm.specification. */
export const VmSpecificationResult = Type.Object(
  {
    vm: VmSummary,
    specification: VmSpecification,
    backupSchedule: Type.Union([BackupSchedule, Type.Null()])
  },
  strict
)
export type VmSpecificationResult = Static<typeof VmSpecificationResult>
