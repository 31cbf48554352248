// What the scheduler remembers of trust: statements, where rotations are, and how far each host is.

import type { TrustHistoryEntry } from '../../protocol/api.ts'

export interface NewStatement {
  readonly serial: number
  readonly jws: string
  readonly at: number
  readonly by: string
  readonly what: string
  readonly forced: boolean
}

/** How far a host is; only those that are enrolled and not revoked. */
export interface HostTrust {
  readonly host: string
  readonly state: 'new' | 'connected' | 'away'
  readonly lastSeenAt: number | undefined
  readonly certificateExpiresAt: number
  /** Undefined for an agent that knows no statements, or that never came. */
  readonly serial: number | undefined
  readonly fault: string | undefined
  /** Hash of the CA that signed the certificate that it last came with. */
  readonly authority: string | undefined
}

export interface OpenCommand {
  readonly sequence: number
  readonly id: string
  readonly jws: string
}

export interface TrustStore {
  /** As JSON; undefined before the first start. */
  state(): Promise<string | undefined>
  /** Both or neither; durable when it resolves. */
  commit(state: string, statement: NewStatement): Promise<void>
  /** Those after that serial, the oldest first. */
  statements(after: number, limit: number): Promise<readonly string[]>
  /** The newest first. */
  history(limit: number): Promise<readonly TrustHistoryEntry[]>
  adopted(host: string, serial: number | undefined, fault: string | undefined): Promise<void>
  cameWith(host: string, authority: string): Promise<void>
  hosts(): Promise<readonly HostTrust[]>
  /** Commands that have not ended, in the order of their making. */
  openCommands(after: number, limit: number): Promise<readonly OpenCommand[]>
  /** The same commands with other signatures, all or none; one that has ended meanwhile is left alone. */
  resigned(commands: readonly OpenCommand[]): Promise<void>
}
