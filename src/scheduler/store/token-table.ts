// Join tokens in SQLite: one use, an expiry, only their hashes.

import { HostletError } from '../../errors.ts'
import type { TokenView } from '../../protocol/api.ts'
import { given, page } from './rows.ts'
import { isConstraintFault, type Sqlite } from './sqlite.ts'
import type { NewHost, NewToken, Page, TokenStore } from './store.ts'

interface TokenRow {
  readonly id: string
  readonly note: string
  readonly created_at: number
  readonly expires_at: number
  readonly used_at: number | null
  readonly host: string | null
}

export class TokenTable implements TokenStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async add(token: NewToken): Promise<void> {
    this.#sqlite.run(
      `INSERT INTO tokens (id, hash, note, created_at, expires_at)
       VALUES (:id, :hash, :note, :createdAt, :expiresAt)`,
      { ...token }
    )
  }

  async list(limit: number, now: number): Promise<Page<TokenView>> {
    const rows = this.#sqlite.all<TokenRow>(
      'SELECT id, note, created_at, expires_at, used_at, host FROM tokens ORDER BY created_at DESC LIMIT :limit',
      { limit: limit + 1 }
    )
    return page(rows, limit, (row) => toView(row, now))
  }

  async remove(id: string): Promise<boolean> {
    return this.#sqlite.run('DELETE FROM tokens WHERE id = :id', { id }) > 0
  }

  async check(hash: Buffer, now: number): Promise<{ readonly usedBy: string | undefined }> {
    const { used_at: usedAt, host } = this.#known(hash, now)
    return { usedBy: usedAt === null ? undefined : (host ?? undefined) }
  }

  async enroll(hash: Buffer, host: NewHost): Promise<void> {
    this.#sqlite.transaction(() => {
      const { id } = this.#usable(hash, host.enrolledAt)
      this.#addHost(host)
      this.#sqlite.run('UPDATE tokens SET used_at = :at, host = :host WHERE id = :id', {
        id,
        at: host.enrolledAt,
        host: host.id
      })
    })
  }

  #addHost({ certificate, ...fields }: NewHost): void {
    try {
      this.#sqlite.run(
        `INSERT INTO hosts (id, hostname, enrolled_at, certificate_expires_at, certificate_key, certificate_from)
         VALUES (:id, :hostname, :enrolledAt, :certificateExpiresAt, :key, :from)`,
        { ...fields, key: certificate?.key ?? null, from: certificate?.from ?? null }
      )
    } catch (error) {
      if (!isConstraintFault(error)) throw error
      throw new HostletError('E_CONFLICT', `the host id ${fields.id} is taken`, { cause: error })
    }
  }

  #known(hash: Buffer, now: number): TokenRow {
    const row = this.#sqlite.get<TokenRow>('SELECT * FROM tokens WHERE hash = :hash', { hash })
    if (row === undefined) throw refusal('unknown', 'is not known here')
    if (row.expires_at <= now) throw row.used_at === null ? refusal('expired', 'has expired') : usedToken(row)
    return row
  }

  #usable(hash: Buffer, now: number): TokenRow {
    const row = this.#known(hash, now)
    if (row.used_at !== null) throw usedToken(row)
    return row
  }
}

/** Names the host: whoever shows the token may know what became of it. */
export function usedToken({ host }: { readonly host: string | null }): HostletError {
  const what = host === null ? '' : ` by host ${host}`
  const lost =
    host === null
      ? ''
      : ` If that was this machine and the answer was lost, remove that entry with "hostlet host rm ${host}".`
  return refusal('used', `was used already${what}.${lost} A token is good for one host`)
}

function refusal(reason: 'unknown' | 'used' | 'expired', what: string): HostletError {
  return new HostletError(
    'E_AUTH',
    `the join token ${what}. Make a new one with "hostlet host token" and use it within its time.`,
    { details: { reason: `${reason}-token` } }
  )
}

function toView(row: TokenRow, now: number): TokenView {
  const usedAt = given(row.used_at)
  const host = given(row.host)
  return {
    id: row.id,
    state: usedAt !== undefined ? 'used' : row.expires_at <= now ? 'expired' : 'open',
    note: row.note,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    ...(usedAt === undefined ? {} : { usedAt }),
    ...(host === undefined ? {} : { host })
  }
}
