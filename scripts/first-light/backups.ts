// Backups as steps: a full one, an incremental one of what the guest wrote since, both verified, and a second VM made of the last.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { apiPath } from '../../src/cli/api-client.ts'
import { formatBytes, formatDuration } from '../../src/cli/quantities.ts'
import type { OperationReply } from '../../src/protocol/api.ts'
import type { BackupRecord, BackupVerifyResult } from '../../src/protocol/backup.ts'
import { policy, repositoryName } from './files.ts'
import type { Fleet } from './fleet.ts'
import { fetchText } from './guest.ts'
import type { Story } from './story.ts'

/** Of random bytes that the guest writes before each backup, so that neither zeros nor compression flatter the figures. */
const writtenMib = 4
const writeTimeoutMs = 30_000

export async function backupSteps(fleet: Fleet, story: Story): Promise<void> {
  const sums: Record<string, string> = {}
  const taken: BackupRecord[] = []
  const back = async (file: string) => {
    const [record, sum] = await backUp(fleet, file, taken.length === 0)
    taken.push(record)
    sums[file] = sum
    return told(record)
  }
  await story.step('full backup', () => back('first'))
  await story.step('changes only', async () => {
    const said = await back('second')
    const [full, changes] = taken
    if (changes?.kind !== 'incremental' || changes.readBytes >= (full?.readBytes ?? 0))
      throw new Error(`the second backup did not read only what changed: ${said}`)
    return said
  })
  await story.step('verify', () => verify(fleet, taken))
  await story.step('restore', () => restore(fleet, sums))
}

/** The guest writes a file first. Returns the backup, and the file's checksum. */
async function backUp(fleet: Fleet, file: string, isFirst: boolean): Promise<[BackupRecord, string]> {
  const { vm } = fleet.settings
  const [sum] = await Promise.all([write(fleet, vm, file), isFirst ? prepare(fleet) : undefined])
  const { operation } = (await fleet.hostlet([
    'vm',
    'backup',
    vm,
    '--target',
    repositoryName
  ])) as OperationReply
  return [operation.value?.record as BackupRecord, sum]
}

async function prepare(fleet: Fleet): Promise<void> {
  const { settings } = fleet
  mkdirSync(settings.repository, { mode: 0o700 })
  await fleet.hostlet(['backup', 'keygen', '--out', settings.recoveryKey])
  writeFileSync(settings.policy, policy(settings), { mode: 0o600 })
}

function told({ kind, readBytes, storedBytes, durationMs }: BackupRecord): string {
  return `${kind}: ${formatBytes(readBytes)} read, ${formatBytes(storedBytes)} stored, ${formatDuration(durationMs)}`
}

/** One by its host, the other with the recovery key alone, as after a disaster: nobody but the repository is asked then. */
async function verify(fleet: Fleet, [full, changes]: readonly BackupRecord[]): Promise<string> {
  const { repository, recoveryKey, schedulerState } = fleet.settings
  const straight = ['--repository', pathToFileURL(repository).href, '--key', recoveryKey]
  const [byHost, byKey] = await Promise.all([
    fleet.hostlet(['backup', 'verify', full?.snapshot ?? '']) as Promise<OperationReply>,
    fleet.hostlet([
      ...['backup', 'verify', changes?.snapshot ?? '', '--expect', changes?.snapshot ?? ''],
      ...[...straight, '--ca', join(schedulerState, 'ca.pem')]
    ]) as Promise<{ readonly goodBlocks: number }>
  ])
  const { blocks } = byHost.operation.value as BackupVerifyResult
  return `both are good: ${blocks} blocks by the host, ${byKey.goodBlocks} by the recovery key alone`
}

/** Under a new name, asked for what the guest had written, and removed again. */
async function restore(fleet: Fleet, sums: Readonly<Record<string, string>>): Promise<string> {
  const { vm, copy } = fleet.settings
  await fleet.hostlet(['vm', 'restore', vm, '--as', copy])
  for (const [file, sum] of Object.entries(sums)) {
    const found = await ask(fleet, copy, `/cgi-bin/sum?file=${file}`)
    if (found !== sum)
      throw new Error(`the restored VM has another ${file} than was backed up: ${found}, not ${sum}`)
  }
  const address = await addressOf(fleet, copy)
  await fleet.hostlet(['vm', 'rm', copy, '--now', '--yes'])
  return `VM ${copy} answered at ${address} with both files as they were; removed again`
}

function write(fleet: Fleet, vm: string, file: string): Promise<string> {
  return ask(fleet, vm, `/cgi-bin/write?mib=${writtenMib}&file=${file}`)
}

/** A SHA-256 that the guest tells. Throws when it tells none. */
async function ask(fleet: Fleet, vm: string, path: string): Promise<string> {
  let sum = ''
  await fleet.until(async () => {
    const host = await addressOf(fleet, vm)
    const text = host && (await fetchText({ host, path, signal: fleet.signal, timeoutMs: writeTimeoutMs }))
    sum = text?.trim() ?? ''
    return sum !== ''
  }, `VM ${vm} to answer ${path}`)
  if (!/^[0-9a-f]{64}$/.test(sum))
    throw new Error(`VM ${vm} told no checksum on ${path}: ${sum.slice(0, 80)}`)
  return sum
}

async function addressOf(fleet: Fleet, vm: string): Promise<string | undefined> {
  const request = { method: 'GET', path: apiPath('vms', vm), signal: fleet.signal } as const
  return (await fleet.client.ask(request, 'VmReply')).vm.address
}
