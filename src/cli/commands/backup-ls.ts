// hostlet backup ls

import { backupColumns } from '../backup/columns.ts'
import { backupCommand, type Direct } from '../backup/command.ts'
import { type DamagedBackup, type StoredBackup, storedBackup } from '../backup/stored-backup.ts'
import { examples, type Session } from '../client-command.ts'
import type { Define } from '../define.ts'
import { listing } from '../listing.ts'
import { parseInteger } from '../quantities.ts'
import { plain } from '../table.ts'

interface Options {
  readonly vm?: string
  readonly host?: string
  readonly target?: string
  readonly removed?: boolean
  readonly limit: string
}

export const define: Define = (command, cli) => {
  command
    .option('--vm <vm>', 'only those of one VM, by name or UUID, also of one that is gone')
    .option('--host <host>', 'only those that one host made')
    .option('--target <repository>', 'only those in one repository, by its name')
    .option('--removed', 'also those that were removed')
    .option('--limit <count>', 'at most so many', '100')
  examples(
    command,
    'hostlet backup ls --vm web-1',
    'hostlet backup ls --repository file:///mnt/backups --key recovery.jwk',
    'hostlet backup ls --repository s3://backups/fleet --key recovery.jwk --endpoint https://s3.example.org --credentials s3.json'
  )
  backupCommand<Options>(command, cli, {
    scheduler: (session, { options }) => fromScheduler(session, options),
    repository: (direct, { options }) => fromRepository(direct, options)
  })
}

async function fromScheduler({ cli, client, signal }: Session, options: Options): Promise<void> {
  const { vm, host, target, removed } = options
  const query = { vm, host, target, removed: removed ? 'true' : undefined, limit: limitOf(options) }
  const answer = await client.ask({ method: 'GET', path: '/v1/backups', query, signal }, 'BackupList')
  cli.show(answer, () =>
    listing(cli, backupColumns(cli.clock.now()), answer.backups, {
      none: 'There are no such backups. Take one with: hostlet vm backup NAME --target REPOSITORY',
      more: answer.more
    })
  )
}

async function fromRepository({ cli, repository }: Direct, options: Options): Promise<void> {
  const backups: StoredBackup[] = []
  const damaged: DamagedBackup[] = []
  for (const { vault, snapshots } of await repository.vaults(options.vm))
    for (const one of snapshots)
      if (one.state === 'good') backups.push(storedBackup(one, repository.store.description))
      else damaged.push({ snapshot: one.id, uuid: vault.vm, reason: one.reason, fault: one.message })
  const wanted = backups.filter(({ host }) => options.host === undefined || host === options.host)
  const newest = wanted.sort((left, right) => right.at - left.at)
  const shown = newest.slice(0, limitOf(options))
  for (const { snapshot, uuid, fault } of damaged)
    cli.note(plain(`cannot be used: backup ${snapshot} of VM ${uuid}: ${fault}`))
  cli.show({ backups: shown, damaged, more: shown.length < newest.length }, () =>
    // The repository is the one that was named, and nobody noted here what a look at a backup found.
    listing(cli, columnsOfRepository(cli.clock.now()), shown, {
      none: 'There are no such backups in it.',
      more: shown.length < newest.length
    })
  )
}

function columnsOfRepository(nowMs: number) {
  return backupColumns(nowMs).filter(({ title }) => title !== 'TARGET' && title !== 'VERIFIED')
}

function limitOf({ limit }: Options): number {
  return parseInteger(limit, { what: '--limit', minimum: 1, maximum: 1_000 })
}
