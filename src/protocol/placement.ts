// Where a VM may stand and where it came to stand: labels of hosts, wishes of VMs, and the explanation of a choice.

import { type Static, Type } from '../lib/schema.ts'
import { Bytes, HostId, ProfileName, Sentence, ShortText, strict, VerbName } from './names.ts'

/** Before the key of a label that the scheduler derives from what a host tells of itself; nobody can set those. */
export const ownLabelPrefix = 'hostlet/'
export const labelsMax = 64
const keyForm = '[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?'

/** Key of a label that people set. */
export const LabelKey = Type.String({
  title: 'a label of lowercase letters, digits, dots, dashes and underscores, such as region',
  pattern: `^${keyForm}$`
})
/** Also one that the scheduler derives, such as hostlet/accelerator. */
const AnyLabelKey = Type.String({
  title: 'a label such as region',
  pattern: `^(${ownLabelPrefix})?${keyForm}$`
})
export const LabelValue = Type.String({
  title: 'a value of letters, digits, dots, dashes and underscores, such as eu-1',
  pattern: '^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$'
})
/** Labels by key; of a host. */
export const Labels = Type.Record(AnyLabelKey, LabelValue, { ...strict, maxProperties: labelsMax })
export type Labels = Static<typeof Labels>

export const GroupName = Type.String({
  title: 'a group of lowercase letters, digits and dashes, such as web',
  pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'
})

/** What a VM wants of its host. It is kept with the VM. */
export const PlacementWish = Type.Object(
  {
    /** Labels that the host must have. */
    require: Type.Optional(Labels),
    /** Labels that speak for a host. */
    prefer: Type.Optional(Labels),
    /** VMs of one group are spread. */
    group: Type.Optional(GroupName),
    /** Over what: `host`, or the key of a label such as rack: hosts with one value of it count as one place. */
    spreadBy: Type.Optional(AnyLabelKey),
    /** No two of the group on one place, rather than as few as possible. */
    apart: Type.Optional(Type.Boolean())
  },
  strict
)
export type PlacementWish = Static<typeof PlacementWish>

/** A VM as far as its place depends on it. */
export const WantedVm = Type.Object(
  {
    cpus: Type.Integer({ minimum: 1, maximum: 4_096 }),
    memoryBytes: Bytes,
    /** All of its disks as the guest sees them. */
    diskBytes: Bytes,
    profile: Type.Optional(ProfileName),
    ...PlacementWish.properties
  },
  strict
)
export type WantedVm = Static<typeof WantedVm>

/** Body of `POST /v1/placements`. */
export const PlacementRequest = Type.Object(
  { ...WantedVm.properties, verb: Type.Optional(Type.Enum(['vm.provision', 'vm.restore'])) },
  strict
)
export type PlacementRequest = Static<typeof PlacementRequest>

export const rankingMax = 20
export const refusedMax = 50

/** Why a VM came to stand where it does, or would. Lists are cut; counts are whole. */
export const PlacementView = Type.Object(
  {
    verb: VerbName,
    wanted: WantedVm,
    /** The host that was chosen; absent where none takes the VM. */
    host: Type.Optional(HostId),
    /** The asker named the host: nothing was chosen. */
    named: Type.Boolean(),
    hosts: Type.Integer({ minimum: 0 }),
    /** Hosts that take it, the best first, with what each score gives: 0 to 1, before weights. */
    ranking: Type.Array(
      Type.Object(
        { host: HostId, score: Type.Number(), parts: Type.Record(ShortText, Type.Number()) },
        strict
      ),
      { maxItems: rankingMax }
    ),
    /** How many hosts each filter refused, in the order in which they are asked. */
    refusedBy: Type.Array(
      Type.Object({ filter: ShortText, hosts: Type.Integer({ minimum: 1 }), text: Sentence }, strict),
      { maxItems: 32 }
    ),
    refused: Type.Array(Type.Object({ host: HostId, filter: ShortText, why: Sentence }, strict), {
      maxItems: refusedMax
    })
  },
  strict
)
export type PlacementView = Static<typeof PlacementView>

export const PlacementReply = Type.Object({ placement: PlacementView }, strict)
export type PlacementReply = Static<typeof PlacementReply>

/** Body of `PUT /v1/hosts/{id}/labels`. */
export const LabelsRequest = Type.Object(
  {
    set: Type.Optional(Type.Record(LabelKey, LabelValue, { ...strict, maxProperties: labelsMax })),
    remove: Type.Optional(Type.Array(LabelKey, { maxItems: labelsMax }))
  },
  strict
)
export type LabelsRequest = Static<typeof LabelsRequest>

export const LabelsReply = Type.Object({ labels: Labels }, strict)
export type LabelsReply = Static<typeof LabelsReply>
