// The audit of a VM as messages carry it: promises, each with yes, no or unknown and why.

import { type Static, Type } from '../lib/schema.ts'
import { strict, Timestamp, VmName } from './names.ts'

export const auditAnswers = ['yes', 'no', 'unknown'] as const
export type AuditAnswer = (typeof auditAnswers)[number]

export const AuditItem = Type.Object(
  {
    /** Stable: what scripts may look for. */
    id: Type.String({ pattern: '^[a-z][a-z-]{0,40}$' }),
    title: Type.String({ maxLength: 128 }),
    answer: Type.Enum([...auditAnswers]),
    why: Type.String({ maxLength: 512 })
  },
  strict
)
export type AuditItem = Static<typeof AuditItem>

export const VmAudit = Type.Object(
  { vm: VmName, at: Timestamp, items: Type.Array(AuditItem, { maxItems: 64 }) },
  strict
)
export type VmAudit = Static<typeof VmAudit>
