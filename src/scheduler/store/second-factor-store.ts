// Second factors as the store knows them: sealed under the text of their key, which the store does not know.

export interface SecondFactorRecord {
  /** Id of the key that it is for. */
  readonly key: string
  /** The secret, encrypted: it opens with the text of the key alone. */
  readonly sealed: Buffer
  readonly begunAt: number
  /** It counts from then on; undefined until a first code was right. */
  readonly confirmedAt: number | undefined
  readonly recoveryCodes: number
}

/** How an attempt at a code is counted. */
export interface AttemptRules {
  readonly now: number
  /** How long no code is looked at after so many wrong ones in a row, in milliseconds; 0 for not at all. */
  lockMs(failures: number): number
  /** A lock that would hold longer is one of a clock that was wrong. */
  readonly lockMsMax: number
}

export interface SecondFactorStore {
  find(key: string): Promise<SecondFactorRecord | undefined>
  /** In place of one that was not confirmed. Throws E_CONFLICT where there is one that counts. */
  begin(factor: Pick<SecondFactorRecord, 'key' | 'sealed' | 'begunAt'>): Promise<void>
  /** Makes it count, and ends the sessions of the key that were opened without it. False when there is none to confirm. */
  confirm(
    key: string,
    first: { at: number; step: number; recoveryHashes: readonly Buffer[] }
  ): Promise<boolean>
  /**
   * Counts an attempt as failed, before its code is looked at: of many at once none goes uncounted. Resolves with the end of
   * the lock where there is one; then the code must not be looked at.
   */
  attempt(key: string, rules: AttemptRules): Promise<number | undefined>
  /** Takes the step of a right code, which ends the count. False where it, or a later one, was used before. */
  useStep(key: string, step: number): Promise<boolean>
  /** False where there is no such code, or it was used. */
  useRecoveryCode(key: string, hash: Buffer): Promise<boolean>
  replaceRecoveryCodes(key: string, hashes: readonly Buffer[]): Promise<void>
  /** Ends all sessions of the key. False when it has none. */
  remove(key: string): Promise<boolean>
}
