// The parts of the policy that are about backups and keys: repositories, who can open what is written, where exports may go.

import { HostletError } from '../../errors.ts'
import { type Static, Type } from '../../lib/schema.ts'
import { suggestion } from '../../lib/suggestion.ts'
import { AbsolutePath, strict } from '../../protocol/names.ts'
import { policyPath } from './paths.ts'
import { fitsVm, VmPatterns } from './patterns.ts'

export const repositoriesMax = 64

const CredentialName = Type.String({
  pattern: '^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$',
  description: 'the name of a systemd credential'
})
const Key = Type.String({
  pattern: '^[A-Za-z0-9_-]{43}$',
  description: 'an X25519 key as 43 characters of base64url'
})

/** Exactly one of the three: see the rules below. */
const Credentials = Type.Object(
  {
    /** JSON with `accessKeyId`, `secretAccessKey` and, where it has one, `sessionToken`. */
    file: Type.Optional(AbsolutePath),
    systemdCredential: Type.Optional(CredentialName),
    /** The same JSON, encrypted to this host's backup key. */
    jwe: Type.Optional(Type.String({ minLength: 16, maxLength: 16_384 }))
  },
  strict
)
export type CredentialSource = Static<typeof Credentials>

const Repository = Type.Object(
  {
    url: Type.String({
      pattern: '^(file:///[^\\s?#]*|s3://[a-z0-9][a-z0-9.-]{2,62}(/[^\\s?#]*)?)$',
      maxLength: 1_024,
      description:
        'file:///directory or s3://bucket/prefix, a bucket of 3 to 63 letters, digits, dots and hyphens'
    }),
    endpoint: Type.Optional(
      Type.String({
        pattern: '^https?://[^\\s?#@]+$',
        maxLength: 512,
        description: 'an http(s):// address without credentials'
      })
    ),
    region: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    pathStyle: Type.Optional(Type.Boolean()),
    /** PEM file of a private CA. */
    ca: Type.Optional(AbsolutePath),
    credentials: Type.Optional(Credentials)
  },
  strict
)
export type RepositoryPolicy = Static<typeof Repository>

const PublicKey = Type.Object(
  {
    kty: Type.Literal('OKP'),
    crv: Type.Literal('X25519'),
    x: Key,
    kid: Type.Optional(Type.String({ maxLength: 256 })),
    alg: Type.Optional(Type.String({ maxLength: 64 })),
    use: Type.Optional(Type.String({ maxLength: 16 }))
  },
  strict
)

/** A public key: the path of its JWK, or the JWK itself. */
const Recipient = Type.Object({ file: Type.Optional(AbsolutePath), jwk: Type.Optional(PublicKey) }, strict)
export type RecipientSource = Static<typeof Recipient>

export const backupSections = {
  repositories: Type.Record(
    Type.String({
      pattern: '^[a-z][a-z0-9-]{0,30}$',
      description: 'a name of lowercase letters, digits and hyphens'
    }),
    Repository,
    { ...strict, default: {}, maxProperties: repositoriesMax }
  ),
  /** Public keys of the fleet: what this host backs up can be opened with their private halves after it is gone. */
  recovery: Type.Array(Recipient, { default: [], maxItems: 16 }),
  /** VMs whose backups are wrapped for keys of their owner, instead of the fleet's. The first that fits counts. */
  tenants: Type.Array(
    Type.Object(
      { vms: VmPatterns, recipients: Type.Array(Recipient, { minItems: 1, maxItems: 16 }) },
      strict
    ),
    { default: [], maxItems: 256 }
  ),
  /** Private keys, to restore what other hosts have written: one is needed after a disaster only. */
  unlockKeys: Type.Array(
    Type.Object(
      { file: Type.Optional(AbsolutePath), systemdCredential: Type.Optional(CredentialName) },
      strict
    ),
    { default: [], maxItems: 16 }
  ),
  /** PEM files of CAs whose hosts' manifests are believed besides this fleet's own: for restoring what another fleet wrote. */
  authorities: Type.Array(AbsolutePath, { default: [], maxItems: 16 }),
  /** Below these a backup may be exported to a new file. */
  exportDirectories: Type.Array(AbsolutePath, { default: [], maxItems: 16 })
}
const BackupPolicySchema = Type.Object(backupSections, strict)
export type BackupPolicy = Static<typeof BackupPolicySchema>

/** The repository of a name. Throws E_AUTH when the policy names none at all, E_NOT_FOUND when it lacks this one. */
export function repositoryOf(policy: Pick<BackupPolicy, 'repositories'>, name: string): RepositoryPolicy {
  const found = Object.hasOwn(policy.repositories, name) ? policy.repositories[name] : undefined
  if (found !== undefined) return found
  const names = Object.keys(policy.repositories)
  if (names.length === 0)
    throw new HostletError(
      'E_AUTH',
      `this host takes no backups: its policy names no repository. An administrator adds one to ${policyPath} on the host; the commented sample is config/policy.yaml.`
    )
  const near = suggestion(name, names)
  throw new HostletError(
    'E_NOT_FOUND',
    `this host's policy names no repository "${name}"${near === undefined ? '' : ` (did you mean "${near}"?)`}. ` +
      `An administrator adds it to ${policyPath} on the host; it has ${names.join(', ')}.`,
    { details: { target: name } }
  )
}

/** Whom the backups of a VM are wrapped for besides the host: its owner's keys, or the fleet's. */
export function recipientsOf(
  policy: Pick<BackupPolicy, 'tenants' | 'recovery'>,
  vm: { name: string; uuid: string }
): readonly RecipientSource[] {
  const tenant = policy.tenants.find(({ vms }) => vms.some((pattern) => fitsVm(pattern, vm)))
  return tenant?.recipients ?? policy.recovery
}

/** What the schema cannot say. */
export interface Fault {
  readonly at: readonly string[]
  readonly text: string
}

export function backupFaults(policy: BackupPolicy): Fault[] {
  const recipients = (at: readonly string[], sources: readonly RecipientSource[]) =>
    sources.flatMap((source, index) => exactlyOne([...at, String(index)], source, ['file', 'jwk']))
  return [
    ...unrecoverable(policy),
    ...Object.entries(policy.repositories).flatMap(([name, repository]) =>
      repositoryFaults(['repositories', name], repository)
    ),
    ...recipients(['recovery'], policy.recovery),
    ...policy.tenants.flatMap((tenant, index) =>
      recipients(['tenants', String(index), 'recipients'], tenant.recipients)
    ),
    ...policy.unlockKeys.flatMap((source, index) =>
      exactlyOne(['unlockKeys', String(index)], source, ['file', 'systemdCredential'])
    )
  ]
}

function unrecoverable({ repositories, recovery }: BackupPolicy): Fault[] {
  if (Object.keys(repositories).length === 0 || recovery.length > 0) return []
  const text =
    'expected the key "recovery" with at least one entry beside it: backups that this host alone opens are lost with it'
  return [{ at: ['repositories'], text }]
}

function repositoryFaults(at: readonly string[], repository: RepositoryPolicy): Fault[] {
  const { url, credentials, ...s3 } = repository
  const forS3 = url.startsWith('s3:')
  const stray = Object.keys(s3).map((key) => ({
    at: [...at, key],
    text: 'expected only with an s3:// address'
  }))
  return [
    ...(forS3 ? [] : stray),
    ...(!forS3 && credentials !== undefined
      ? [{ at: [...at, 'credentials'], text: 'expected only with an s3:// address' }]
      : []),
    ...(credentials === undefined
      ? []
      : exactlyOne([...at, 'credentials'], credentials, ['file', 'systemdCredential', 'jwe']))
  ]
}

export function exactlyOne(at: readonly string[], value: object, keys: readonly string[]): Fault[] {
  if (Object.keys(value).length === 1) return []
  return [{ at, text: `expected exactly one of the keys ${keys.join(', ')}` }]
}
