// Whom an explanation is about, as it was typed.

export interface Subject {
  /** Undefined: this host itself. */
  readonly name: string | undefined
  readonly isHost: boolean
}

export const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
