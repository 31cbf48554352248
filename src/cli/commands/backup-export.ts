// hostlet backup export SNAPSHOT: a disk as an image file, on a host, or with --repository on this machine.

import { resolve } from 'node:path'
import { HostletError } from '../../errors.ts'
import type { ExportBackupRequest } from '../../protocol/api.ts'
import { apiPath } from '../api-client.ts'
import { recordedOnHost } from '../audit/on-host.ts'
import { backupCommand, type Direct } from '../backup/command.ts'
import { backupId } from '../backup/latest.ts'
import { ProgressLine } from '../backup/progress.ts'
import { examples, type Session } from '../client-command.ts'
import type { Define } from '../define.ts'
import { operate, operationOptions, refuseDryRunHere } from '../operate.ts'
import { formatBytes, formatTime } from '../quantities.ts'

interface Options {
  readonly vm?: string
  readonly disk: string
  readonly format: ExportBackupRequest['format']
  readonly to: string
  readonly host?: string
  readonly wait: boolean
  readonly dryRun?: boolean
}

export const define: Define = (command, cli) => {
  command
    .argument('<backup>', 'id of the backup, or latest with --vm')
    .option('--vm <vm>', 'the VM whose latest backup is meant, by name or UUID')
    .option('--disk <role>', 'root or data', 'root')
    .addOption(
      command.createOption('--format <format>', 'of the file').choices(['qcow2', 'raw']).default('qcow2')
    )
    .requiredOption(
      '--to <file>',
      'new file: on the host, where its policy allows it, or with --repository here'
    )
    .option('--host <host>', 'host that writes it (default: the one that made the backup)')
  command.addHelpText(
    'after',
    '\nThe file holds the disk unencrypted. One that exists is never written to. What a raw file begins with is the guest’s: tell tools its format (qemu-img -f raw), lest they believe a header that the guest has put there.'
  )
  operationOptions(command)
  examples(
    command,
    'hostlet backup export latest --vm web-1 --to web-1.qcow2 --repository file:///mnt/backups --key recovery.jwk',
    'hostlet backup export 0199c0de-… --disk data --format raw --to /srv/export/data.raw'
  )
  backupCommand<Options, readonly [string]>(command, cli, {
    scheduler: (session, { options, arguments: [id] }) => onHost(session, id, options),
    repository: (direct, { options, arguments: [id] }) => here(direct, id, options),
    check: ({ options }) => refuseDryRunHere(options)
  })
}

async function onHost(session: Session, given: string, options: Options): Promise<void> {
  const { disk, format, to: path, host } = options
  if (!path.startsWith('/'))
    throw new HostletError(
      'E_BAD_REQUEST',
      `--to takes the whole path of a file on the host, such as /var/backups/hostlet/web-1.qcow2, not "${path}".`
    )
  const id = await backupId(session, given, options.vm)
  const request = {
    method: 'POST',
    path: apiPath('backups', id, 'export'),
    body: { disk, format, path, ...(host === undefined ? {} : { host }) },
    signal: session.signal
  } as const
  await operate(session, request, {
    options,
    done: (ended) => `The ${disk} disk is in ${path} on host ${ended.host}.`
  })
}

async function here({ cli, repository, signal }: Direct, id: string, options: Options): Promise<void> {
  const { vault, snapshot } = await repository.find(id, options.vm)
  const { body, vmKey } = snapshot
  const disk = body.disks.find(({ role }) => role === options.disk)
  if (disk === undefined)
    throw new HostletError(
      'E_NOT_FOUND',
      `backup ${snapshot.id} has no ${options.disk} disk: give --disk ${body.disks.map(({ role }) => role).join(' or ')}.`
    )
  const { restoreDisk } = await import('../../backup/read/restore.ts')
  const path = resolve(options.to)
  const target = await createTarget(options.format, path, disk.sizeBytes)
  using progress = new ProgressLine(cli, `export ${body.vm.name} ${disk.role}`)
  // Takes its half of a file away by itself when it fails, also by Ctrl-C.
  const facts = { vm: body.vm.name, snapshot: snapshot.id, disk: disk.role, path }
  const { writtenBytes } = await recordedOnHost(cli, { action: 'backup export', facts }, () =>
    restoreDisk({
      ...{ store: vault.store, vm: vault.vm, vmKey, disk, target, clock: cli.clock, signal },
      onProgress: (state) => progress.tell(state)
    })
  )
  progress[Symbol.dispose]()
  const exported = { snapshot: snapshot.id, path, sizeBytes: disk.sizeBytes, writtenBytes }
  cli.show(exported, () => [
    `The ${disk.role} disk of VM ${body.vm.name} as of ${formatTime(body.at)} is in ${path}: ${formatBytes(disk.sizeBytes)}, ${formatBytes(writtenBytes)} of it not empty.`
  ])
}

async function createTarget(format: Options['format'], path: string, sizeBytes: number) {
  if (format === 'raw')
    return (await import('../../backup/targets/raw-file.ts')).createRawFile(path, sizeBytes)
  return (await import('../../backup/targets/qcow2-file.ts')).createQcow2File(path, sizeBytes)
}
