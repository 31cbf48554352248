// The life of the connection to the scheduler as a pure function: state and event in, state and effects out.

import { closeCodes } from '../../protocol/messages.ts'

/** Bounds of the wait before the addresses are tried once more; doubles with each round, full jitter. */
export const retryBaseMs = 1_000
export const retryCapMs = 60_000
/** After a refusal that no waiting mends by itself: soon enough for an operator who mends it. */
export const refusedRetryMs = 60_000
export const connectTimeoutMs = 15_000
/** From the open socket to the scheduler's welcome. */
export const welcomeTimeoutMs = 15_000
/** From a ping to the answer: a connection that is silent for longer is taken for dead. */
export const pongTimeoutMs = 15_000
/** Results that are not acknowledged go out again so often. */
export const resendIntervalMs = 30_000
/** Unreadable messages in a row before the connection is given up. */
export const badMessagesMax = 5
export const heartbeatIntervalMsMin = 1_000

export const timerNames = ['retry', 'connect', 'welcome', 'heartbeat', 'pong', 'resend'] as const
export type TimerName = (typeof timerNames)[number]

export interface Intervals {
  readonly heartbeatIntervalMs: number
  readonly metricsIntervalMs: number
}

export interface SessionState {
  readonly phase: 'idle' | 'waiting' | 'connecting' | 'greeting' | 'online' | 'stopped'
  /** Which address is tried, or is next. */
  readonly urlIndex: number
  /** Rounds over all addresses that failed since the last welcome. */
  readonly rounds: number
  readonly badMessages: number
  /** A ping is out and nothing was heard since. */
  readonly awaitingPong: boolean
  /** Closed by ourselves, to come back at once. */
  readonly moving: boolean
  readonly heartbeatIntervalMs: number
}

export type SessionEvent =
  | { readonly type: 'start' }
  | { readonly type: 'stop' }
  /** Open the connection anew, because what it was opened with has changed. */
  | { readonly type: 'reconnect'; readonly reason: string }
  | { readonly type: 'opened' }
  /** The socket is gone, or never came to be. `refused` when trying again soon is no use. `jitter` in [0, 1). */
  | { readonly type: 'closed'; readonly reason: string; readonly refused: boolean; readonly jitter: number }
  | ({ readonly type: 'welcome' } & Intervals)
  | ({ readonly type: 'settings' } & Intervals)
  /** A readable message. */
  | { readonly type: 'heard' }
  | { readonly type: 'pong' }
  | { readonly type: 'bad-message' }
  /** What stood in the way of a connection is out of it: a new certificate came. */
  | { readonly type: 'nudge' }
  | { readonly type: 'timer'; readonly name: TimerName }

export type SessionEffect =
  | { readonly do: 'connect'; readonly urlIndex: number }
  | { readonly do: 'hello' }
  | { readonly do: 'heartbeat' }
  | { readonly do: 'ping' }
  | { readonly do: 'problem' }
  | { readonly do: 'resend' }
  | ({ readonly do: 'online' } & Intervals)
  | ({ readonly do: 'intervals' } & Intervals)
  | { readonly do: 'offline'; readonly reason: string; readonly retryMs: number }
  | { readonly do: 'close'; readonly code: number; readonly reason: string }
  /** Without a farewell: the other side does not answer. */
  | { readonly do: 'terminate'; readonly reason: string }
  | { readonly do: 'set-timer'; readonly name: TimerName; readonly ms: number }
  | { readonly do: 'clear-timer'; readonly name: TimerName }

export interface Transition {
  readonly state: SessionState
  readonly effects: readonly SessionEffect[]
}

export const firstState: SessionState = {
  phase: 'idle',
  urlIndex: 0,
  rounds: 0,
  badMessages: 0,
  awaitingPong: false,
  moving: false,
  heartbeatIntervalMs: 10_000
}

/** What happens next. Events that mean nothing in a state leave it as it is. */
export function step(state: SessionState, event: SessionEvent, urls: number): Transition {
  if (state.phase === 'stopped') return same(state)
  switch (event.type) {
    case 'start':
      return state.phase === 'idle' ? connect(state) : same(state)
    case 'stop':
      return stop(state)
    case 'reconnect':
      return state.phase === 'online' && !state.moving ? move(state, event.reason) : same(state)
    case 'opened':
      return state.phase === 'connecting' ? greet(state) : same(state)
    case 'closed':
      if (state.moving) return connect(state)
      return state.phase === 'waiting' || state.phase === 'idle' ? same(state) : retry(state, event, urls)
    case 'welcome':
      return state.phase === 'greeting' ? goOnline(state, event) : bad(state)
    case 'settings':
      return state.phase === 'online' ? settle(state, event) : bad(state)
    case 'heard':
      return alive({ ...state, badMessages: 0 })
    case 'pong':
      return alive(state)
    case 'bad-message':
      return bad(state)
    case 'nudge':
      return state.phase === 'waiting' ? nudge(state) : same(state)
    case 'timer':
      return timers[event.name](state)
    default:
      return event satisfies never
  }
}

const timers: Readonly<Record<TimerName, (state: SessionState) => Transition>> = {
  retry: (state) => (state.phase === 'waiting' ? connect(state) : same(state)),
  connect: (state) => terminate(state, 'connecting', `no connection within ${connectTimeoutMs} ms`),
  welcome: (state) => terminate(state, 'greeting', `no welcome within ${welcomeTimeoutMs} ms`),
  pong: (state) => terminate(state, 'online', `nothing heard for ${pongTimeoutMs} ms after a ping`),
  heartbeat: (state) => (state.phase === 'online' ? beat(state) : same(state)),
  resend: (state) =>
    state.phase === 'online'
      ? { state, effects: [{ do: 'resend' }, { do: 'set-timer', name: 'resend', ms: resendIntervalMs }] }
      : same(state)
}

function same(state: SessionState): Transition {
  return { state, effects: [] }
}

function connect(state: SessionState): Transition {
  return {
    state: { ...state, phase: 'connecting', badMessages: 0, awaitingPong: false, moving: false },
    effects: [
      { do: 'set-timer', name: 'connect', ms: connectTimeoutMs },
      { do: 'connect', urlIndex: state.urlIndex }
    ]
  }
}

function nudge(state: SessionState): Transition {
  const { state: next, effects } = connect(state)
  return { state: next, effects: [{ do: 'clear-timer', name: 'retry' }, ...effects] }
}

function greet(state: SessionState): Transition {
  return {
    state: { ...state, phase: 'greeting' },
    effects: [
      { do: 'clear-timer', name: 'connect' },
      { do: 'set-timer', name: 'welcome', ms: welcomeTimeoutMs },
      { do: 'hello' }
    ]
  }
}

function goOnline(state: SessionState, intervals: Intervals): Transition {
  const online = beat({ ...state, phase: 'online', rounds: 0, heartbeatIntervalMs: beatEvery(intervals) })
  return {
    state: online.state,
    effects: [
      { do: 'clear-timer', name: 'welcome' },
      { do: 'online', ...only(intervals) },
      ...online.effects,
      { do: 'set-timer', name: 'resend', ms: resendIntervalMs }
    ]
  }
}

function settle(state: SessionState, intervals: Intervals): Transition {
  const heartbeatIntervalMs = beatEvery(intervals)
  return {
    state: { ...state, heartbeatIntervalMs },
    effects: [
      { do: 'intervals', ...only(intervals) },
      { do: 'set-timer', name: 'heartbeat', ms: heartbeatIntervalMs }
    ]
  }
}

/** The ping rides with the heartbeat: its answer proves that the other side lives, not only that the kernel takes bytes. */
function beat(state: SessionState): Transition {
  const next: SessionEffect = { do: 'set-timer', name: 'heartbeat', ms: state.heartbeatIntervalMs }
  // The wait counts from the first ping that went unanswered: a further one does not prolong it.
  const wait: SessionEffect[] = state.awaitingPong
    ? []
    : [{ do: 'ping' }, { do: 'set-timer', name: 'pong', ms: pongTimeoutMs }]
  return { state: { ...state, awaitingPong: true }, effects: [{ do: 'heartbeat' }, ...wait, next] }
}

function alive(state: SessionState): Transition {
  return { state: { ...state, awaitingPong: false }, effects: [{ do: 'clear-timer', name: 'pong' }] }
}

function bad(state: SessionState): Transition {
  if (state.phase !== 'online' && state.phase !== 'greeting') return same(state)
  const badMessages = state.badMessages + 1
  const effects: SessionEffect[] = [{ do: 'problem' }]
  if (badMessages >= badMessagesMax)
    effects.push({
      do: 'close',
      code: closeCodes.badMessages,
      reason: `${badMessages} unreadable messages in a row`
    })
  return { state: { ...state, badMessages }, effects }
}

function terminate(state: SessionState, phase: SessionState['phase'], reason: string): Transition {
  return state.phase === phase ? { state, effects: [{ do: 'terminate', reason }] } : same(state)
}

/** What comes until the other side has closed as well is still taken. */
function move(state: SessionState, reason: string): Transition {
  return {
    state: { ...state, moving: true },
    effects: [...clearTimers(), { do: 'close', code: closeCodes.normal, reason }]
  }
}

/** The next address soon, and the first one again after a wait that grows with each round. */
function retry(
  state: SessionState,
  { reason, refused, jitter }: { reason: string; refused: boolean; jitter: number },
  urls: number
): Transition {
  const urlIndex = (state.urlIndex + 1) % urls
  const wrapped = urlIndex === 0
  const bound = Math.min(retryCapMs, retryBaseMs * 2 ** Math.min(state.rounds, 16))
  const rounds = wrapped ? state.rounds + 1 : state.rounds
  const retryMs = Math.floor(refused && wrapped ? refusedRetryMs * (0.5 + jitter / 2) : jitter * bound)
  return {
    state: { ...state, phase: 'waiting', urlIndex, rounds },
    effects: [
      ...clearTimers(),
      { do: 'offline', reason, retryMs },
      { do: 'set-timer', name: 'retry', ms: retryMs }
    ]
  }
}

function stop(state: SessionState): Transition {
  const open = state.phase === 'online' || state.phase === 'greeting'
  const farewell: SessionEffect = open
    ? { do: 'close', code: closeCodes.normal, reason: 'the agent stops' }
    : { do: 'terminate', reason: 'the agent stops' }
  return { state: { ...state, phase: 'stopped' }, effects: [...clearTimers(), farewell] }
}

function clearTimers(): SessionEffect[] {
  return timerNames.map((name) => ({ do: 'clear-timer', name }))
}

function beatEvery({ heartbeatIntervalMs }: Intervals): number {
  return Math.max(heartbeatIntervalMsMin, heartbeatIntervalMs)
}

function only({ heartbeatIntervalMs, metricsIntervalMs }: Intervals): Intervals {
  return { heartbeatIntervalMs, metricsIntervalMs }
}
