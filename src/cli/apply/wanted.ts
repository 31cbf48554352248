// A VM as a file wants it, in the terms of the API: what the file does not say is absent, and left as it is.

import { dirname, resolve } from 'node:path'
import { asHostletError, HostletError } from '../../errors.ts'
import type { ConfigRules } from '../../lib/config-file.ts'
import type { SeedRequest } from '../../protocol/api.ts'
import type { BackupSchedule } from '../../protocol/backup.ts'
import type { PlacementWish } from '../../protocol/placement.ts'
import type { VmNetwork, VmSpecification } from '../../protocol/vm.ts'
import { digestOf } from '../digest.ts'
import { parseHealthProbe } from '../health-probe.ts'
import { networkOf } from '../network-options.ts'
import { parseBytes, parseDuration } from '../quantities.ts'
import { readText } from '../read-text.ts'
import { httpOf } from '../readiness.ts'
import { sshKeysIn } from '../ssh-keys.ts'
import type { Manifest } from './schema.ts'

type Sizes = 'cpus' | 'memoryBytes' | 'rootDiskBytes' | 'dataDiskBytes' | 'diskLimits'
type Asked = Partial<Pick<VmSpecification, Sizes | 'profile' | 'image' | 'ready' | 'consoleLog'>>

export interface WantedVm extends Asked {
  readonly name: string
  /** Where it is written: `file:line`. */
  readonly where: string
  readonly host?: string | undefined
  readonly placement?: PlacementWish
  /** Null takes the limit away. */
  readonly cpuLimitPercent?: number | null
  /** Null: no seed. */
  readonly seed?: SeedRequest | null
  readonly network: VmNetwork
  /** Empty: none. */
  readonly ports?: NonNullable<VmNetwork['ports']>
  readonly health?: NonNullable<VmSpecification['health']>
  /** Null takes it away. */
  readonly backup?: BackupSchedule | null
  readonly wanted?: 'running' | 'stopped'
}

/** Faults of a manifest that its schema cannot say. Files that it names are looked for beside `file`. */
export function manifestRules(file: string): ConfigRules<Manifest> {
  return (manifest) => {
    const faults: { at: string[]; text: string }[] = []
    wantedOf(manifest, { file, line: 0 }, (key, error) => {
      const { message } = asHostletError(error)
      faults.push({ at: [key], text: `${key}: ${message}` })
    })
    return faults
  }
}

type OnFault = (key: keyof Manifest, error: unknown) => void

export function wantedOf(
  manifest: Manifest,
  { file, line }: { readonly file: string; readonly line: number },
  onFault: OnFault = (_key, error) => {
    throw error
  }
): WantedVm {
  const part = <Value>(key: keyof Manifest, read: () => Value): Value | undefined => {
    try {
      return manifest[key] === undefined ? undefined : read()
    } catch (error) {
      onFault(key, error)
      return undefined
    }
  }
  const bytes = (key: 'dataDisk' | 'disk' | 'memory') => part(key, () => bytesOf(manifest[key]))
  const { vm, host, placement, profile, cpus, cpuLimit, consoleLog, wanted, backup } = manifest
  return defined({
    ...{ name: vm, where: `${file}:${line}`, host, placement, profile, cpus, consoleLog, wanted },
    image: imageOf(manifest, part, onFault),
    memoryBytes: bytes('memory'),
    rootDiskBytes: bytes('disk'),
    dataDiskBytes: bytes('dataDisk'),
    cpuLimitPercent: cpuLimit === 'none' ? null : cpuLimit,
    diskLimits: part('diskLimits', () => diskLimitsOf(manifest.diskLimits ?? {})),
    seed: seedOf(manifest, file, part, onFault),
    ready: part('ready', () => readyOf(manifest.ready ?? {})),
    network: networkIn(manifest, part),
    ports: part('ports', () => networkOf({ dns: true, publish: manifest.ports ?? [] })?.ports ?? []),
    health: part('health', () => (manifest.health ?? []).map(parseHealthProbe)),
    backup: backup === 'none' ? null : part('backup', () => scheduleOf(backup))
  })
}

type Part = <Value>(key: keyof Manifest, read: () => Value) => Value | undefined

function imageOf(
  { image: url, sha256, format = 'qcow2' }: Manifest,
  part: Part,
  onFault: OnFault
): WantedVm['image'] {
  const digest = part('sha256', () => digestOf(sha256 ?? ''))
  if (url === undefined && sha256 === undefined) return undefined
  if (url === undefined || sha256 === undefined)
    return void onFault(
      url === undefined ? 'sha256' : 'image',
      bad('"image" and "sha256" go together. Give both.')
    )
  return digest === undefined ? undefined : { url, sha256: digest, format }
}

function seedOf(manifest: Manifest, file: string, part: Part, onFault: OnFault): WantedVm['seed'] {
  const { seed, hostname, sshKeys, sshKeyFiles, userDataFile, hardened } = manifest
  const beside = (path: string) => resolve(file === '-' ? '.' : dirname(file), path)
  const fromFiles = part('sshKeyFiles', () =>
    (sshKeyFiles ?? []).flatMap((path) => sshKeysIn(readText(beside(path), 'SSH key file'), 'sshKeyFiles'))
  )
  const listed = part('sshKeys', () => sshKeysIn((sshKeys ?? []).join('\n'), 'sshKeys'))
  const userData = part('userDataFile', () => readText(beside(userDataFile ?? ''), 'user data'))
  const keys =
    listed === undefined && fromFiles === undefined ? undefined : [...(listed ?? []), ...(fromFiles ?? [])]
  const given = defined({ hostname, sshAuthorizedKeys: keys, userData, hardened })
  const isGiven = Object.keys(given).length > 0
  if (seed === false && isGiven)
    onFault('seed', bad('without a seed there is no host name, SSH key, user data or hardening.'))
  if (seed === false) return null
  return isGiven ? given : undefined
}

function readyOf({ port, http, timeout }: NonNullable<Manifest['ready']>): NonNullable<WantedVm['ready']> {
  return defined({
    tcpPort: port,
    http: http === undefined ? undefined : httpOf(http, 'http'),
    timeoutMs: timeout === undefined ? undefined : parseDuration(timeout)
  })
}

function networkIn({ egress, dns, receiveLimit, transmitLimit }: Manifest, part: Part): VmNetwork {
  const asked = part('egress', () =>
    networkOf({ dns: true, ...(typeof egress === 'string' ? { egress } : { egressTo: egress ?? [] }) })
  )
  return defined({
    egress: asked?.egress,
    dns,
    receiveBytesPerSecondMax: part('receiveLimit', () => bytesOf(receiveLimit)),
    transmitBytesPerSecondMax: part('transmitLimit', () => bytesOf(transmitLimit))
  })
}

function diskLimitsOf({ rate, iops }: NonNullable<Manifest['diskLimits']>) {
  return defined({
    bytesPerSecondMax: rate === undefined ? undefined : bytesOf(rate),
    operationsPerSecondMax: iops
  })
}

function scheduleOf(backup: Exclude<Manifest['backup'], 'none'>): BackupSchedule {
  const { target, every, cron, timeZone, jitter, quiesce, limit, keep } = backup ?? { target: '' }
  if ((every === undefined) === (cron === undefined))
    throw bad('a schedule has either "every" or "cron". Give one of them.')
  return defined({
    ...{ target, cron, timeZone, quiesce, keep },
    everyMs: every === undefined ? undefined : parseDuration(every),
    jitterMs: jitter === undefined ? undefined : parseDuration(jitter),
    limits: limit === undefined ? undefined : { bytesPerSecond: bytesOf(limit) }
  })
}

function bytesOf(size: string | number | undefined): number {
  return typeof size === 'number' ? size : parseBytes(size ?? '')
}

type Defined<Fields> = { [Name in keyof Fields]: Exclude<Fields[Name], undefined> }

/** Without the keys that are absent. */
function defined<Fields extends object>(fields: Fields): Defined<Fields> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined)
  ) as Defined<Fields>
}

function bad(text: string): HostletError {
  return new HostletError('E_BAD_REQUEST', text)
}
