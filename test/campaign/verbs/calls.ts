// What goes between an agent in its process and the world outside of it, which the agent's death leaves as it is.

import { HostletError } from '../../../src/errors.ts'
import type { AgentMessage } from '../../../src/protocol/messages.ts'
import type { Finish } from './agent.ts'

export type Port = 'hypervisor' | 'nft'

export interface Call {
  readonly port: Port
  readonly method: string
  readonly args: readonly unknown[]
}

/** Calls of the ports that change something. All others only look. */
export const changing: ReadonlySet<string> = new Set([
  'define',
  'annotate',
  'start',
  'pressPowerButton',
  'requestReboot',
  'reset',
  'cutPower',
  'reshape',
  'growDisk',
  'ejectSeed',
  'undefine',
  'uploadBase',
  'createOverlay',
  'createVolume',
  'removeVolume',
  'storeDisk',
  'writeRange',
  'defineSecret',
  'removeSecret',
  'ensureNetwork',
  'removeNetwork',
  'addReservation',
  'removeReservation',
  'beginBackup',
  'endBackup',
  'removeCheckpoint',
  'redefineCheckpoint',
  'clearBackup',
  'startPaused',
  'resume',
  'createImport',
  'finishImport',
  'clearAutostart',
  'ensurePool',
  'apply',
  // What a kill cuts short, and what guests and others do: from the campaign itself.
  'spoilVolume',
  'describeVolume',
  'tamper',
  'writeAsGuest'
])

export interface AgentStart {
  readonly agent: string
  readonly directory: string
  readonly at: number | undefined
  /** Guests never answer on their port. */
  readonly neverReady: boolean
}

export type ToAgents =
  | ({ readonly type: 'start' } & AgentStart)
  | {
      readonly type: 'reply'
      readonly agent: string
      readonly number: number
      readonly value?: unknown
      readonly error?: Fault
    }
  | { readonly type: 'event'; readonly agent: string; readonly event: unknown }
  | { readonly type: 'rules'; readonly agent: string }
  | { readonly type: 'lost'; readonly agent: string; readonly job: number; readonly error: Fault }
  | { readonly type: 'command'; readonly agent: string; readonly jws: string }
  | { readonly type: 'local'; readonly agent: string; readonly vm: string }
  | { readonly type: 'acknowledge'; readonly agent: string; readonly command: string }
  | { readonly type: 'finish'; readonly agent: string }

export type FromAgents =
  | { readonly type: 'call'; readonly agent: string; readonly number: number; readonly call: Call }
  | { readonly type: 'ready'; readonly agent: string; readonly unfinished: number }
  | { readonly type: 'message'; readonly agent: string; readonly message: AgentMessage }
  | { readonly type: 'local'; readonly agent: string }
  | { readonly type: 'reached'; readonly agent: string; readonly what: string }
  | ({ readonly type: 'finished'; readonly agent: string; readonly effects: number } & Finish)
  | { readonly type: 'failed'; readonly agent: string; readonly reason: string }

export interface Fault {
  readonly code: string
  readonly message: string
  readonly details?: HostletError['details']
}

export function faultOf(error: unknown): Fault {
  if (error instanceof HostletError) {
    const { code, message, details } = error
    return { code, message, ...(details && { details }) }
  }
  return { code: 'E_INTERNAL', message: error instanceof Error ? (error.stack ?? '') : String(error) }
}

export function errorOf({ code, message, details }: Fault): HostletError {
  return new HostletError(code as 'E_INTERNAL', message, { ...(details && { details }) })
}
