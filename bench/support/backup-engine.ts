// The backup engine as the figures drive it: a repository in a directory, one VM's vault, and its newest snapshot as parent.

import { createPrivateKey, randomUUID, sign } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exportJWK, generateKeyPair } from 'jose'
import type { DiskSource, DiskTarget } from '../../src/backup/disk.ts'
import { restoreDisk } from '../../src/backup/read/restore.ts'
import { openStore } from '../../src/backup/repository/open-store.ts'
import { ensureRepository } from '../../src/backup/repository/repository.ts'
import type { ObjectStore } from '../../src/backup/repository/store.ts'
import type { ManifestBody } from '../../src/backup/vault/manifest-body.ts'
import { Vault } from '../../src/backup/vault/vault.ts'
import { type BackUpResult, backUpDisks } from '../../src/backup/write/back-up.ts'
import type { Tracking } from '../../src/backup/write/runs.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { TestAuthority, trustDomain } from '../../test/support/test-authority.ts'

/** That of the agent where its configuration says nothing. */
const COMPRESSION_LEVEL = 1
const wait = { signal: new AbortController().signal }

export type Place = 'memory' | 'disk'

/** A directory of the bench's own, removed at the end; in memory what is measured is not this machine's disk. */
export function makeRoom(place: Place): { readonly path: string } & Disposable {
  const parent = place === 'memory' && existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
  const path = mkdtempSync(join(parent, 'hostlet-bench-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) }
}

/** What the files below a directory hold. */
export function bytesBelow(directory: string): number {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0)
}

export interface BenchVault extends AsyncDisposable {
  readonly directory: string
  readonly store: ObjectStore
  /** Backs the disk up, then has the job ended, then signs and commits the manifest. */
  backUp(source: DiskSource, tracking: Tracking, end?: () => Promise<void>): Promise<BackUpResult>
  /** Of the newest snapshot. */
  restore(target: DiskTarget): Promise<void>
}

/** A new repository below `parent`, with the vault of a new VM. */
export async function openVault(parent: string): Promise<BenchVault> {
  const directory = mkdtempSync(join(parent, 'repository-'))
  const store = await openStore({ url: `file://${directory}` }, { clock: systemClock, ...wait })
  await ensureRepository(store, wait)
  const authority = await TestAuthority.create()
  const { cert, key } = await authority.issue({ uris: [`spiffe://${trustDomain}/host/host-1`] })
  const signingKey = createPrivateKey(key)
  const signer = {
    certificates: [cert],
    sign: async (bytes: Uint8Array) =>
      sign('sha256', bytes, { key: signingKey, dsaEncoding: 'ieee-p1363' as const })
  }
  const pair = await generateKeyPair('ECDH-ES+A256KW', { crv: 'X25519', extractable: true })
  const host = await exportJWK(pair.privateKey)
  const vm = randomUUID()
  const open = () =>
    Vault.open({
      ...{ store, vm, unlocker: { keys: [host] } },
      ...{ trust: { authorities: [authority.certificate], trustDomain }, ...wait }
    })
  return {
    directory,
    store,
    backUp: async (source, tracking, end) => {
      const vault = await open()
      const last = (await vault.newest(wait))?.body
      const parent = last?.disks[0]?.root ?? null
      const at = Date.now()
      const result = await backUpDisks({
        ...{ store, vm, vmKey: vault.vmKey, compressionLevel: COMPRESSION_LEVEL, clock: systemClock },
        disks: [{ role: 'data', source, parent, tracking }],
        ...wait,
        onProgress: () => undefined
      })
      await end?.()
      const body = bodyOf({ vm, last, at, result, tracking })
      await vault.commit({ snapshot: randomUUID(), body, signer, recipients: [host], ...wait })
      return result
    },
    restore: async (target) => {
      const vault = await open()
      const { body, vmKey } = await vault.snapshot('latest', wait)
      const [disk] = body.disks
      if (disk === undefined) throw new Error('the snapshot has no disk')
      await restoreDisk({ store, vm, vmKey, disk, target, clock: systemClock, ...wait })
    },
    [Symbol.asyncDispose]: async () => {
      await store.close()
      rmSync(directory, { recursive: true, force: true })
    }
  }
}

interface Taken {
  readonly vm: string
  readonly last: ManifestBody | undefined
  readonly at: number
  readonly result: BackUpResult
  readonly tracking: Tracking
}

function bodyOf({ vm, last, at, result, tracking }: Taken): ManifestBody {
  const { readBytes, storedBytes, packs } = result
  return {
    vm: { uuid: vm, name: 'bench', specification: {} },
    ...{ host: 'host-1', sequence: (last?.sequence ?? 0) + 1, previous: null },
    kind: tracking === 'all' ? 'full' : 'incremental',
    ...{ consistency: 'crash', at, finishedAt: Date.now() },
    disks: result.disks.map(({ readBytes: _, ...disk }) => disk),
    ...{ counts: { readBytes, storedBytes, packs }, tool: 'hostlet bench' }
  }
}
