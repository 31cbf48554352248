// A store in a directory of its own.

import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { VmSpecification } from '../../../src/protocol/vm.ts'
import { SqliteStore } from '../../../src/scheduler/store/sqlite-store.ts'
import type { CommandRecord, NewCommand, StoreBounds } from '../../../src/scheduler/store/store.ts'

const wide = { keepMs: 1_000_000, rowsMax: 1_000 }

export class TestStore implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'hostlet-store-'))
  readonly #bounds: StoreBounds
  #store: SqliteStore

  constructor(bounds: Partial<StoreBounds> = {}) {
    this.#bounds = { commands: wide, metrics: wide, events: wide, ...bounds }
    this.#store = new SqliteStore(this.directory, this.#bounds)
  }

  get store(): SqliteStore {
    return this.#store
  }

  /** As after a crash: nothing is closed in order first. */
  openAgain(): SqliteStore {
    this.#store = new SqliteStore(this.directory, this.#bounds)
    return this.#store
  }

  /** A host that has enrolled. */
  async host(id: string, now = 1_000): Promise<string> {
    const hash = randomBytes(32)
    await this.#store.tokens.add({ id: randomUUID(), hash, note: '', createdAt: now, expiresAt: now + 1 })
    await this.#store.tokens.enroll(hash, {
      id,
      hostname: id,
      enrolledAt: now,
      certificateExpiresAt: now + 1_000
    })
    return id
  }

  command(host: string, change: Partial<NewCommand> = {}): Promise<CommandRecord> {
    return this.#store.commands.add({
      id: randomUUID(),
      verb: 'host.facts',
      host,
      vm: undefined,
      jws: 'a.b.c',
      createdAt: 1_000,
      expiresAt: 2_000,
      intent: { kind: 'none' },
      repeatable: undefined,
      ...change
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store.close()
    rmSync(this.directory, { recursive: true, force: true })
  }
}

export function vmSpecification(name: string, uuid: string = randomUUID()): VmSpecification {
  return {
    name,
    uuid,
    profile: 'starter',
    image: { url: 'https://images.example.org/a.qcow2', sha256: 'a'.repeat(64), format: 'qcow2' },
    cpus: 1,
    memoryBytes: 256 * 1024 ** 2,
    rootDiskBytes: 1024 ** 3,
    seed: { userData: 'password: hunter2' }
  }
}
