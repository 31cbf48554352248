// What a command has to pass besides its signature, and where every decision about one is written down: two ports that
// others fill, so that dispatch knows neither the host's policy nor its audit trail.

import type { ErrorReport } from '../../errors.ts'
import type { CommandClaims, CommandResult } from '../../protocol/command.ts'
import type { PolicyForecast } from '../../protocol/plan.ts'

/** A command whose signature is good, before it is recorded. */
export interface SignedCommand {
  readonly claims: CommandClaims
  /** SHA-256 of the signed payload, in hex. */
  readonly digest: string
  /** Id of the key that signed it. */
  readonly signer: string
  /** Signatures of others that came with it, as compact JWS, not looked at yet. */
  readonly approvals: readonly string[]
}

/** What was found, and put down, for a command that was let through. */
export interface GatePass {
  /** Names of those whose approvals were wanted and are good. */
  readonly approvers?: readonly string[]
  /** Takes that back: the command was refused after all. Never throws. */
  withdraw(): Promise<void>
}

/** The host's own rules, which no command can change. */
export interface CommandGate {
  /** Throws why the command may not be carried out on this host. Asked once, before the command is recorded. */
  check(command: SignedCommand, params: unknown): Promise<GatePass | undefined>
  /** What `check` would say now of a command that nobody has approved. Counts nothing. Absent: allows everything. */
  foresee?(claims: CommandClaims, params: unknown): Promise<PolicyForecast>
}

/** One line of the audit trail that is about a command. Arguments are not told: they may hold what nobody needs to keep. */
export type CommandNote =
  | ({
      readonly kind: 'accepted'
      readonly command: SignedCommand
      readonly looks?: true
    } & Pick<GatePass, 'approvers'>)
  | {
      readonly kind: 'refused'
      /** Absent for what was not signed for this host by a key that it knows. */
      readonly command: (Pick<SignedCommand, 'claims'> & Partial<SignedCommand>) | undefined
      readonly error: ErrorReport
    }
  /** What the agent does by itself. */
  | { readonly kind: 'begun'; readonly claims: CommandClaims }
  /** `looks` here and above: nothing came of it, and of very many the trail may keep a count. */
  | {
      readonly kind: 'ended'
      readonly claims: CommandClaims
      readonly result: CommandResult
      readonly looks?: true
    }

export interface CommandTrail {
  /** On disk when it resolves: nothing is acknowledged before. */
  note(note: CommandNote): Promise<void>
}

/** Allows everything and remembers nothing. */
export const openGate: CommandGate = { check: async () => undefined }
export const noTrail: CommandTrail = { note: async () => undefined }
