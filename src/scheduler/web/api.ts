// Asks the scheduler's API as whoever has signed in: the session is a cookie that no script sees.

import type { ApiError } from '../../protocol/api.ts'

/** An answer that is not a success, or none at all: then `status` is 0. */
export class ApiFailure extends Error {
  readonly status: number
  readonly code: string
  /** Of `details`: why somebody was refused. */
  readonly reason: string | undefined
  /** Seconds to wait before the next try, where the answer says so. */
  readonly retryAfter: number | undefined

  constructor(
    message: string,
    answer: { status: number; code: string; reason?: string | undefined; retryAfter?: number | undefined }
  ) {
    super(message)
    this.status = answer.status
    this.code = answer.code
    this.reason = answer.reason
    this.retryAfter = answer.retryAfter
  }
}

/** Whether somebody is there: has clicked or typed lately. */
export interface Attended {
  readonly isAttended: boolean
}

export interface AskOptions {
  readonly body?: unknown
  readonly signal?: AbortSignal
  /** The same for each try of one wish: it is then carried out once. */
  readonly key?: string
  /** Nobody wished for it just now. */
  readonly isBackground?: boolean
}

export class Api {
  /** Called when the session is not, or no longer, good. */
  onSignedOut: () => void = () => {}
  readonly #attendance: Attended

  constructor(attendance: Attended) {
    this.#attendance = attendance
  }

  get<Answer>(path: string, signal?: AbortSignal): Promise<Answer> {
    return this.ask<Answer>('GET', path, signal === undefined ? {} : { signal })
  }

  /** As pages do by themselves, again and again: it keeps the session only while somebody is there. */
  look<Answer>(path: string, signal: AbortSignal): Promise<Answer> {
    return this.ask<Answer>('GET', path, { signal, isBackground: !this.#attendance.isAttended })
  }

  async ask<Answer>(
    method: string,
    path: string,
    { body, signal, key, isBackground = false }: AskOptions = {}
  ): Promise<Answer> {
    const response = await reach(path, {
      method,
      credentials: 'same-origin',
      redirect: 'error',
      headers: {
        accept: 'application/json',
        ...(isBackground && { 'x-hostlet-background': '1' }),
        ...(method !== 'GET' && { 'x-hostlet-request': '1' }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(key !== undefined && { 'idempotency-key': key })
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      ...(signal && { signal })
    })
    if (response.ok) return (await response.json()) as Answer
    const failure = await failureOf(response)
    if (response.status === 401 && path !== '/v1/session') this.onSignedOut()
    throw failure
  }
}

async function reach(path: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(path, init)
  } catch (error) {
    if (init.signal?.aborted) throw error
    throw new ApiFailure('The scheduler does not answer.', { status: 0, code: 'E_UNAVAILABLE' })
  }
}

async function failureOf(response: Response): Promise<ApiFailure> {
  const { status } = response
  const after = Number(response.headers.get('retry-after'))
  const retryAfter = after > 0 ? after : undefined
  try {
    const { error } = (await response.json()) as ApiError
    const reason = typeof error.details?.reason === 'string' ? error.details.reason : undefined
    return new ApiFailure(error.message, { status, code: error.code, reason, retryAfter })
  } catch {
    return new ApiFailure(`The scheduler answered with status ${status}.`, {
      status,
      code: 'E_INTERNAL',
      retryAfter
    })
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
