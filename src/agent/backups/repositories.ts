// Repositories as the policy names them, opened for one operation, and the backups of one VM in them.

import { createPrivateKey, sign, X509Certificate } from 'node:crypto'
import { acquireLock, type RepositoryLock } from '../../backup/repository/lock.ts'
import { openStore, type StoreSettings } from '../../backup/repository/open-store.ts'
import { ensureRepository } from '../../backup/repository/repository.ts'
import type { ObjectStore } from '../../backup/repository/store.ts'
import { Vault } from '../../backup/vault/vault.ts'
import { HostletError } from '../../errors.ts'
import type { Signer, Trust } from '../../lib/certified-signature.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { Wait } from '../host/hypervisor.ts'
import { type PrivateKey, type PublicKey, publicHalf } from '../keys/jwk.ts'
import type { Operation } from '../operations/verb.ts'
import { type RepositoryPolicy, repositoryOf } from '../policy/backup-sections.ts'
import { policyOwners } from '../policy/paths.ts'
import { loadPolicy, type Policy } from '../policy/policy.ts'
import { readTrustedFile } from '../policy/trusted-file.ts'
import { loadAuthorities, loadCredentials, loadRecipients, loadUnlockKeys } from './credentials.ts'
import { ensureHostKey } from './host-key.ts'

/** How long a vault may belong to somebody else: to another host's backup, or to a prune. */
export const lockWaitMs = 1_800_000

/** The host's certificate and key, as enrollment gave them: manifests are signed with them. */
export interface HostIdentity {
  /** PEM, the leaf. */
  readonly certificate: string
  /** PEM of the CA of this host's fleet; two of them while one takes the place of another. */
  readonly caCertificate: string
  /** PEM of those before it: they vouch for backups that were made in their time. */
  readonly retiredAuthorities?: readonly string[]
  /** PEM, PKCS #8, ECDSA on P-256. */
  readonly key: string
  readonly trustDomain: string
}

export interface RepositoriesOptions {
  readonly policyPath: string
  readonly stateDirectory: string
  readonly hostId: string
  /** Of this process: two agents of one host, one of them an old one that still runs, are two writers. */
  readonly instance: string
  readonly credentialsDirectory?: string | undefined
  /** As it is now: it is renewed while the agent runs. Undefined on a host that is not enrolled. */
  identity(): HostIdentity | undefined
  readonly clock: Clock
  readonly log: Logger
  /** For tests; by the address otherwise. */
  readonly openStore?: typeof openStore | undefined
}

/** A repository that is open, for as long as one operation needs it. */
export interface OpenRepository extends AsyncDisposable {
  /** Its name in the policy. */
  readonly target: string
  readonly store: ObjectStore
  readonly policy: Policy
}

export class Repositories {
  readonly #options: RepositoriesOptions

  constructor(options: RepositoriesOptions) {
    this.#options = options
  }

  /** Makes the host's key where there is none. At the start, so that a state directory that fails is seen then. */
  async prepare(): Promise<void> {
    await this.#hostKey()
  }

  policy(): Policy {
    return loadPolicy(this.#options.policyPath)
  }

  /** Throws as `open` does for what the policy does not name, without looking at the repository. */
  require(target: string): void {
    repositoryOf(this.policy(), target)
  }

  /**
   * Opens a repository of the policy. With `create` one is made where there is none. Throws E_AUTH without a policy,
   * E_NOT_FOUND for a name that it lacks, and as the store does.
   */
  async open(target: string, wait: Wait & { readonly create?: boolean }): Promise<OpenRepository> {
    const policy = this.policy()
    const settings = await this.#settings(repositoryOf(policy, target))
    const { clock, log } = this.#options
    const open = this.#options.openStore ?? openStore
    const store = await open(settings, { clock, log, signal: wait.signal })
    try {
      await ensureRepository(store, { signal: wait.signal, create: wait.create === true })
    } catch (error) {
      await store.close()
      throw error
    }
    return { target, store, policy, [Symbol.asyncDispose]: () => store.close() }
  }

  /**
   * The backups of a VM. Throws E_AUTH when neither the host's key nor a key of the policy opens them; nothing is
   * written before the first commit.
   */
  async vault({ store, policy }: OpenRepository, vm: string, wait: Wait): Promise<Vault> {
    const { policyPath, credentialsDirectory, identity, hostId: host } = this.#options
    const places = { policyPath, credentialsDirectory }
    const keys = [await this.#hostKey(), ...(await loadUnlockKeys(policy, places))]
    return await Vault.open({
      store,
      vm,
      host,
      unlocker: { keys },
      trust: trustOf(identity(), loadAuthorities(policy, places)),
      signal: wait.signal
    })
  }

  /** The vault of a VM for one writer at a time, of this host or another. Released when disposed of. */
  async lock(
    { store }: OpenRepository,
    vm: string,
    { signal, progress }: Pick<Operation, 'signal' | 'progress'>,
    waitMs = lockWaitMs
  ): Promise<RepositoryLock> {
    const { hostId: host, instance, clock } = this.#options
    progress({ note: 'waiting for the repository' })
    const name = `vms/${vm}/locks`
    return await acquireLock(store, {
      name,
      holder: { host, instance },
      clock,
      signal,
      waitMs
    })
  }

  /** Whom a VM's backups are wrapped for: this host, and whom the policy says. */
  async recipients(policy: Policy, vm: { name: string; uuid: string }): Promise<readonly PublicKey[]> {
    const { policyPath, credentialsDirectory } = this.#options
    const others = await loadRecipients(policy, vm, { policyPath, credentialsDirectory })
    return [publicHalf(await this.#hostKey()), ...others]
  }

  /** Signs as this host. Throws E_AUTH on one that is not enrolled, and while its certificate would make nobody believe it. */
  signer(): Signer {
    const identity = this.#options.identity()
    if (identity === undefined)
      throw new HostletError(
        'E_AUTH',
        'this host is not enrolled: backups are signed with its certificate. Run "hostlet enroll".'
      )
    mustBeValid(identity.certificate, this.#options.clock.now())
    const key = createPrivateKey(identity.key)
    return {
      certificates: [identity.certificate],
      sign: (bytes) => Promise.resolve(sign('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' }))
    }
  }

  async #hostKey(): Promise<PrivateKey> {
    return await ensureHostKey(this.#options)
  }

  async #settings({ credentials, ca, ...rest }: RepositoryPolicy): Promise<StoreSettings> {
    const { policyPath, credentialsDirectory } = this.#options
    const places = { policyPath, credentialsDirectory }
    const owners = policyOwners(policyPath)
    return {
      ...rest,
      ...(ca !== undefined && { ca: readTrustedFile(ca, { what: 'the CA of a repository', owners }) }),
      ...(credentials !== undefined && {
        credentials: await loadCredentials(credentials, await this.#hostKey(), places)
      })
    }
  }
}

/** A backup is believed when its signer's certificate was valid at its end. */
function mustBeValid(certificate: string, nowMs: number): void {
  const { validFromDate, validToDate } = new X509Certificate(certificate)
  if (nowMs >= validFromDate.getTime() && nowMs <= validToDate.getTime()) return
  throw new HostletError(
    'E_AUTH',
    `backups are signed with this host's certificate, which is valid from ${validFromDate.toISOString()} to ${validToDate.toISOString()} only. Look at the clock of this host, and at why the scheduler has not renewed the certificate.`
  )
}

/** With the CAs of other fleets, their trust domains are believed too. */
function trustOf(identity: HostIdentity | undefined, others: readonly string[]): Trust {
  const own = identity === undefined ? [] : [identity.caCertificate, ...(identity.retiredAuthorities ?? [])]
  const alone = identity !== undefined && others.length === 0
  return { authorities: [...own, ...others], ...(alone && { trustDomain: identity.trustDomain }) }
}
