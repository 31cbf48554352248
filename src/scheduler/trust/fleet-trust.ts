// The keys and CAs that the fleet goes by: who signs now, what hosts are told, and the steps of a rotation.

import { X509Certificate } from 'node:crypto'
import { join } from 'node:path'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { Logger } from '../../lib/log.ts'
import { splitCertificates } from '../../lib/pem.ts'
import { writePrivateFile } from '../../lib/private-file.ts'
import type { RotationReply } from '../../protocol/api.ts'
import type { CommandClaims } from '../../protocol/command.ts'
import type { CommandKey } from '../../protocol/enrollment.ts'
import type { ReceiptClaims } from '../../protocol/trail.ts'
import { trustJwsType } from '../../protocol/trust.ts'
import { Authority, type AuthorityOptions, createAuthority, hashOfPublicKey } from '../identity/authority.ts'
import { type CommandPrivateKey, CommandSigner, createCommandKey } from '../identity/command-signer.ts'
import { readIfThere } from '../identity/read-if-there.ts'
import type { Store } from '../store/store.ts'
import { KeyPool } from './key-pool.ts'
import { resignOpenCommands } from './resign.ts'
import {
  assertPossible,
  nameOf,
  type Rotation,
  type RotationAction,
  type RotationSubject,
  statementOf,
  stepped,
  type TrustState,
  withRoles
} from './state.ts'
import { assertNobodyLags, consequencesOf, rotationView } from './views.ts'

/** Over which time hosts renew their certificates after the CA has changed, unless told otherwise. */
export const renewWithinMsDefault = 600_000
const subjectLock = 'trust'

export interface FleetTrustOptions extends AuthorityOptions {
  /** Where systemd has put the unit's credentials; undefined outside of systemd. */
  readonly credentialsDirectory: string | undefined
  readonly store: Pick<Store, 'trust'>
  readonly clock: Clock
  readonly log: Logger
}

export interface Step {
  readonly subject: RotationSubject
  readonly action: RotationAction
  /** Id of the API key that asked for it. */
  readonly by: string
  readonly force: boolean
  readonly renewWithinMs: number | undefined
}

export class FleetTrust {
  readonly #options: FleetTrustOptions
  readonly #commandKeys: KeyPool<CommandPrivateKey>
  readonly #authorityKeys: KeyPool<string>
  readonly #locks = new KeyedLock()
  readonly #listeners: (() => Promise<void>)[] = []
  #state: TrustState
  #signer: CommandSigner
  #authority: Authority

  private constructor(
    options: FleetTrustOptions,
    parts: {
      commandKeys: KeyPool<CommandPrivateKey>
      authorityKeys: KeyPool<string>
      state: TrustState
      signer: CommandSigner
      authority: Authority
    }
  ) {
    this.#options = options
    this.#commandKeys = parts.commandKeys
    this.#authorityKeys = parts.authorityKeys
    this.#state = parts.state
    this.#signer = parts.signer
    this.#authority = parts.authority
  }

  /**
   * Takes up what was recorded; at the first start it makes what is missing. Throws E_CORRUPT when the keys of those who sign
   * are not at hand, or are damaged.
   */
  static async open(options: FleetTrustOptions): Promise<FleetTrust> {
    const { directory, credentialsDirectory, store } = options
    const places = { directory, credentialsDirectory }
    const commandKeys = await KeyPool.ofCommands(places)
    const authorityKeys = await KeyPool.ofAuthorities(places)
    const recorded = await store.trust.state()
    const state =
      recorded === undefined
        ? await firstState(options, commandKeys, authorityKeys)
        : (JSON.parse(recorded) as TrustState)
    const signer = await signerOf(commandKeys, state.commandKey.active)
    const authority = await authorityOf(options, authorityKeys, state.authority.active)
    const trust = new FleetTrust(options, { commandKeys, authorityKeys, state, signer, authority })
    if (recorded === undefined) await trust.#commit(state, signer, { what: 'first start', by: 'scheduler' })
    await trust.#settle()
    return trust
  }

  /** The one that signs certificates now. */
  get authority(): Authority {
    return this.#authority
  }

  get serial(): number {
    return this.#state.serial
  }

  get state(): TrustState {
    return this.#state
  }

  /** What hosts verify commands with, the one that signs first. */
  get commandKeys(): CommandKey[] {
    return withRoles(this.#state.commandKey).map(({ item }) => item)
  }

  /** PEM of every CA that is believed now, the one that signs first. */
  get bundle(): string {
    return withRoles(this.#state.authority)
      .map(({ item }) => `${item.trim()}\n`)
      .join('')
  }

  /** PEM of all that vouch for what hosts sign and signed. */
  get authorities(): readonly string[] {
    return [this.bundle, ...this.#state.retired]
  }

  sign(claims: CommandClaims): Promise<string> {
    return this.#signer.sign(claims)
  }

  signReceipt(claims: ReceiptClaims): Promise<string> {
    return this.#signer.signReceipt(claims)
  }

  /**
   * What the server shows and whom it believes. While one CA takes the place of another the old one vouches for the new one,
   * so that a host which was away, or a token that was made before, still finds the CA that it knows.
   */
  async tls(names: readonly string[]): Promise<{ key: string; cert: string; ca: string }> {
    const { certificatePem, keyPem } = await this.#authority.serverCertificate(names)
    const chain = [certificatePem, ...(await this.#bridge()), this.#believedRoot()]
    return { key: keyPem, cert: chain.map((pem) => `${pem.trim()}\n`).join(''), ca: this.bundle }
  }

  /** Statements after that serial, the oldest first. */
  statements(after: number, limit: number): Promise<readonly string[]> {
    return this.#options.store.trust.statements(after, limit)
  }

  /** The statement in force, alone. */
  async newest(): Promise<readonly string[]> {
    return await this.statements(this.#state.serial - 1, 1)
  }

  /** `serial` is undefined for an agent that knows no statements. */
  adopted(host: string, serial: number | undefined, fault?: string): Promise<void> {
    return this.#options.store.trust.adopted(host, serial, fault)
  }

  /** The host has shown this certificate, or was given it with its enrollment. */
  async cameWith(host: string, certificate: X509Certificate): Promise<void> {
    const issuer = withRoles(this.#state.authority).find(({ item }) => {
      const authority = new X509Certificate(item)
      return certificate.checkIssued(authority) && certificate.verify(authority.publicKey)
    })
    if (issuer !== undefined) await this.#options.store.trust.cameWith(host, hashOfPublicKey(issuer.item))
  }

  /** Called after each change. */
  onChange(listener: () => Promise<void>): void {
    this.#listeners.push(listener)
  }

  /**
   * Takes a step. Throws E_CONFLICT when its phase does not allow it, or while hosts lag behind and `force` is not given.
   */
  async step(step: Step): Promise<RotationReply & { readonly cutOff: readonly string[] }> {
    await using _held = await this.#locks.acquire(subjectLock)
    const { subject, action, by, force } = step
    assertPossible(this.#rotation(subject).phase, action, subject)
    const { store, clock, log } = this.#options
    const hosts = await store.trust.hosts()
    const left = assertNobodyLags(hosts, { ...step, state: this.#state, now: clock.now() })
    const signer = this.#signer
    const { state, droppedKey } = await this.#next(step)
    if (droppedKey !== undefined) await this.#resign(droppedKey, state)
    await this.#commit(state, signer, { what: `${subject} ${action}`, by, forced: force })
    log.info(
      { subject, action, by, force, serial: state.serial, left: left.length },
      'step of a rotation taken'
    )
    await this.#settle()
    for (const listener of this.#listeners) await listener()
    const now = clock.now()
    const dropsAuthority = subject === 'ca' && state.authority.phase === 'idle'
    return {
      cutOff: dropsAuthority ? left.map(({ host }) => host) : [],
      rotation: rotationView({ subject, state, hosts: await store.trust.hosts(), now }),
      warnings: consequencesOf(step, state, left, {
        command: this.#commandKeys.find(state.commandKey.active.kid),
        authority: this.#authorityKeys.find(hashOfPublicKey(state.authority.active))
      })
    }
  }

  #rotation(subject: RotationSubject): Rotation<unknown> {
    return subject === 'ca' ? this.#state.authority : this.#state.commandKey
  }

  /** The state after the step. Nothing is recorded yet but a new key, which is nobody's until then. */
  async #next({ subject, action, by, renewWithinMs }: Step) {
    const { clock } = this.#options
    const state = this.#state
    const at = clock.now()
    // Seconds since the epoch, so that serials grow even when the store was lost or is an old copy.
    const serial = Math.max(state.serial + 1, Math.floor(at / 1_000))
    const change = { action, serial, at, by }
    const base = { ...state, serial, renewWithinMs: renewWithinMs ?? state.renewWithinMs }
    if (subject === 'command-key') {
      const next = action === 'start' ? await this.#newCommandKey() : undefined
      const { rotation, dropped } = stepped(state.commandKey, { ...change, next })
      return { state: { ...base, commandKey: rotation }, droppedKey: dropped }
    }
    const next = action === 'start' ? await this.#newAuthority() : undefined
    const { rotation, dropped } = stepped(state.authority, { ...change, next })
    // One that never signed for a host vouches for nothing; one that did, before it was taken back, does.
    const retired = dropped === undefined ? state.retired : [...state.retired, dropped]
    return { state: { ...base, authority: rotation, retired }, droppedKey: undefined }
  }

  async #newCommandKey(): Promise<CommandKey> {
    const { kid } = this.#state.commandKey.active
    const given = this.#commandKeys.credentialBeside([kid])
    const key = given?.key ?? (await createCommandKey())
    if (given === undefined) await this.#commandKeys.write('next', key)
    const { d: _secret, ...publicKey } = key
    return publicKey
  }

  async #newAuthority(): Promise<string> {
    const given = this.#authorityKeys.credentialBeside([hashOfPublicKey(this.#state.authority.active)])
    const { certificatePem, keyPem } = await createAuthority(this.#options, given?.key)
    if (given === undefined) await this.#authorityKeys.write('next', keyPem)
    return certificatePem
  }

  /** Commands that have not ended are signed by the key that stays, before hosts drop the other one. */
  async #resign(dropped: CommandKey, state: TrustState): Promise<void> {
    const signer = await signerOf(this.#commandKeys, state.commandKey.active)
    const count = await resignOpenCommands({ store: this.#options.store, signer, dropped })
    if (count > 0) this.#options.log.info({ count, by: signer.publicKey.kid }, 'open commands signed anew')
  }

  async #commit(
    state: TrustState,
    signer: CommandSigner,
    { what, by, forced = false }: { what: string; by: string; forced?: boolean }
  ): Promise<void> {
    const { store, clock, trustDomain } = this.#options
    const at = clock.now()
    const payload = new TextEncoder().encode(JSON.stringify(statementOf(state, trustDomain, at)))
    const jws = await signer.signPayload(payload, trustJwsType)
    const active = await signerOf(this.#commandKeys, state.commandKey.active)
    const authority = await authorityOf(this.#options, this.#authorityKeys, state.authority.active)
    await store.trust.commit(JSON.stringify(state), { serial: state.serial, jws, at, by, what, forced })
    this.#state = state
    this.#signer = active
    this.#authority = authority
  }

  /** Brings the files in line with what is recorded: what a crash in between left undone is done by the next start. */
  async #settle(): Promise<void> {
    const { directory, log } = this.#options
    const { commandKey, authority } = this.#state
    const hash = (pem: string | undefined) => pem && hashOfPublicKey(pem)
    const path = join(directory, 'ca.pem')
    if (readIfThere(path) !== this.bundle) writePrivateFile(path, this.bundle)
    const gone = [
      ...(await this.#commandKeys.settle(commandKey.active.kid, commandKey.other?.kid)),
      ...(await this.#authorityKeys.settle(hashOfPublicKey(authority.active), hash(authority.other)))
    ]
    for (const file of gone) log.info({ file }, 'key that nobody believes any more is destroyed')
    for (const file of [...this.#commandKeys.copies(), ...this.#authorityKeys.copies()])
      log.warn({ file }, 'a credential holds this key too: remove the file once the credential is kept safe')
  }

  /** The new CA by the word of the old one, and whom its holders believe; nothing where the old one's key is not at hand. */
  async #bridge(): Promise<string[]> {
    const { phase, active, other } = this.#state.authority
    if (phase !== 'activated' || other === undefined) return []
    const key = this.#authorityKeys.find(hashOfPublicKey(other))
    if (key === undefined) return []
    const before = await Authority.of(this.#options, { certificatePem: other, keyPem: key.key })
    return [await before.vouchFor(active)]
  }

  #believedRoot(): string {
    const { phase, active, other } = this.#state.authority
    const bridged = phase === 'activated' && other !== undefined
    return bridged && this.#authorityKeys.find(hashOfPublicKey(other)) !== undefined ? other : active
  }
}

/** What an installation has that knew no statements, or the keys of a new one. */
async function firstState(
  options: FleetTrustOptions,
  commandKeys: KeyPool<CommandPrivateKey>,
  authorityKeys: KeyPool<string>
): Promise<TrustState> {
  const { clock } = options
  const found = commandKeys.first()
  if (found === undefined) await commandKeys.write('current', await createCommandKey())
  const key = commandKeys.first()?.key
  if (key === undefined) throw new HostletError('E_INTERNAL', 'the command key that was made is not there')
  const { d: _secret, ...publicKey } = key
  const at = clock.now()
  const serial = Math.floor(at / 1_000)
  const rest = { phase: 'idle', other: undefined, serial, changedAt: at, changedBy: 'scheduler' } as const
  return {
    serial,
    commandKey: { ...rest, active: publicKey },
    authority: { ...rest, active: await firstAuthority(options, authorityKeys) },
    retired: [],
    renewWithinMs: renewWithinMsDefault
  }
}

async function firstAuthority(options: FleetTrustOptions, keys: KeyPool<string>): Promise<string> {
  const path = join(options.directory, 'ca.pem')
  const [found] = splitCertificates(readIfThere(path) ?? '')
  if (found !== undefined && found !== '') return found
  const given = keys.first()
  // A key file without its certificate is what a crash at the first start leaves.
  const { certificatePem, keyPem } = await createAuthority(
    options,
    given?.isCredential ? given.key : undefined
  )
  if (!given?.isCredential) await keys.write('current', keyPem)
  writePrivateFile(path, `${certificatePem.trim()}\n`)
  options.log.info({ caHash: hashOfPublicKey(certificatePem) }, 'certificate authority created')
  return certificatePem
}

async function signerOf(keys: KeyPool<CommandPrivateKey>, { kid }: CommandKey): Promise<CommandSigner> {
  const held = keys.find(kid)
  if (held !== undefined) return await CommandSigner.of(held.key, held.path)
  throw missing('command-key', `of key ${kid}`)
}

async function authorityOf(
  options: AuthorityOptions,
  keys: KeyPool<string>,
  certificatePem: string
): Promise<Authority> {
  const held = keys.find(hashIfPossible(certificatePem, options.directory))
  if (held !== undefined) return await Authority.of(options, { certificatePem, keyPem: held.key })
  throw missing('ca', `of ${join(options.directory, 'ca.pem')}: ca-key.pem is missing or another`)
}

function hashIfPossible(certificatePem: string, directory: string): string {
  try {
    return hashOfPublicKey(certificatePem)
  } catch (cause) {
    throw new HostletError(
      'E_CORRUPT',
      `${join(directory, 'ca.pem')} is no certificate. Restore it from a backup.`,
      { cause }
    )
  }
}

function missing(subject: RotationSubject, which: string): HostletError {
  const credential = subject === 'ca' ? 'hostlet-ca-key' : 'hostlet-command-key'
  return new HostletError(
    'E_CORRUPT',
    `the private key of the ${nameOf(subject)} that hosts believe is not at hand, neither as a file nor as credential ${credential} (${which}). Restore it from a backup, or give the credential back: hosts believe no other key.`
  )
}
