// Asks the agent of this host through its socket; what is wrong when it does not answer, and what to do.

import { accessSync, constants, existsSync } from 'node:fs'
import { request } from 'node:http'
import type { Command } from 'commander'
import { HostletError, isErrorCode } from '../../errors.ts'
import type { Static } from '../../lib/schema.ts'
import { type LocalOperations, type LocalStatus, localAnswerBytesMax } from '../../protocol/local.ts'
import { readAnswer } from '../read-answer.ts'
import { unitFault } from './unit.ts'

export const socketDefault = '/run/hostlet/agent.sock'
const answerTimeoutMs = 15_000

interface Answers {
  readonly LocalStatus: Static<typeof LocalStatus>
  readonly LocalOperations: Static<typeof LocalOperations>
}

/** The options of commands that may ask the agent of this host. */
export interface LocalOptions {
  readonly local?: boolean
  readonly socket?: string
}

export function localOptions(command: Command): Command {
  return command
    .option('--local', 'ask the agent of this host, not the scheduler')
    .option('--socket <path>', `its socket, where that is not ${socketDefault} (HOSTLET_SOCKET)`)
}

export function socketOf(
  { socket }: LocalOptions,
  environment: Readonly<Record<string, string | undefined>>
): string {
  return socket || environment.HOSTLET_SOCKET || socketDefault
}

/** Whether there is a socket that this user may ask at. Nobody need listen there. */
export function mayAsk(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK)
    return true
  } catch {
    return false
  }
}

export class AgentSocket {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  /**
   * Throws the agent's own error; E_UNAVAILABLE when none listens, with what systemd says of it, E_AUTH without permission,
   * E_TIMEOUT, E_PROTOCOL for what is no answer of an agent, and the signal's reason.
   */
  async ask<Name extends keyof Answers>(
    target: string,
    name: Name,
    signal: AbortSignal
  ): Promise<Answers[Name]> {
    const [{ status, text }, check] = await Promise.all([this.#exchange(target, signal), loadCheck(name)])
    const value = parsed(text, this.path)
    if (status >= 400) throw reported(value, status, this.path)
    try {
      return check(value) as Answers[Name]
    } catch (cause) {
      throw new HostletError(
        'E_PROTOCOL',
        `the agent at ${this.path} answered in another form than expected: ${(cause as Error).message}. It may be of another version than this command: restart it, VMs run on.`,
        { cause }
      )
    }
  }

  #exchange(target: string, signal: AbortSignal): Promise<{ status: number; text: string }> {
    const deadline = AbortSignal.timeout(answerTimeoutMs)
    return new Promise((resolve, reject) => {
      const fail = async (error: unknown) => {
        if (signal.aborted) reject(signal.reason)
        else if (deadline.aborted)
          reject(
            new HostletError(
              'E_TIMEOUT',
              `the agent at ${this.path} did not answer within ${answerTimeoutMs / 1_000} s. Look at "hostlet logs"; systemd restarts one that hangs, and VMs run on.`
            )
          )
        else reject(await this.#unreachable(error as NodeJS.ErrnoException))
      }
      const options = { socketPath: this.path, path: target, signal: AbortSignal.any([signal, deadline]) }
      const outgoing = request(options, (answer) =>
        readAnswer(answer, { outgoing, bytesMax: localAnswerBytesMax }, { resolve, fail })
      )
      outgoing.on('error', fail)
      outgoing.end()
    })
  }

  async #unreachable(error: NodeJS.ErrnoException): Promise<HostletError> {
    const { code = '', message } = error
    if (code === 'EACCES' || code === 'EPERM')
      return new HostletError(
        'E_AUTH',
        `${this.path} is for root and the group hostlet. Ask with sudo, or have yourself added with "usermod -aG hostlet USER" and log in anew.`,
        { cause: error }
      )
    if (code === 'ENOENT' || code === 'ECONNREFUSED')
      return new HostletError('E_UNAVAILABLE', await unitFault(this.path, existsSync(this.path)), {
        cause: error
      })
    return new HostletError(
      'E_UNAVAILABLE',
      `${this.path} cannot be asked (${code || message}). See "hostlet logs".`,
      {
        cause: error
      }
    )
  }
}

async function loadCheck(name: keyof Answers): Promise<(value: unknown) => unknown> {
  const [{ compile }, schemas] = await Promise.all([
    import('../../protocol/validate.ts'),
    import('../../protocol/local.ts')
  ])
  return compile(schemas[name], name)
}

function parsed(text: string, path: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new HostletError(
      'E_PROTOCOL',
      `${path} did not answer as an agent does. Is it the agent's socket?`,
      {
        cause
      }
    )
  }
}

function reported(value: unknown, status: number, path: string): HostletError {
  const report = (value as { error?: { code?: unknown; message?: unknown } } | null)?.error
  if (isErrorCode(report?.code) && typeof report.message === 'string')
    return new HostletError(report.code, report.message)
  return new HostletError('E_PROTOCOL', `${path} answered with status ${status} and no error of an agent.`)
}
