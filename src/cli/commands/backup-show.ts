// hostlet backup show SNAPSHOT

import { apiPath } from '../api-client.ts'
import { backupFields } from '../backup/columns.ts'
import { backupCommand } from '../backup/command.ts'
import { backupId } from '../backup/latest.ts'
import { storedBackup } from '../backup/stored-backup.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { renderFields } from '../table.ts'

const signers = {
  trusted: 'a host of the fleet, as its certificate says',
  'not-checked': 'not checked: give --ca with the scheduler’s CA'
} as const

export const define: Define = (command, cli) => {
  command
    .argument('<backup>', 'id of the backup, or latest with --vm')
    .option('--vm <vm>', 'the VM whose latest backup is meant, by name or UUID')
  examples(
    command,
    'hostlet backup show 0199c0de-…',
    'hostlet backup show latest --vm web-1',
    'hostlet backup show latest --vm web-1 --repository file:///mnt/backups --key recovery.jwk'
  )
  backupCommand<{ vm?: string }, readonly [string]>(command, cli, {
    scheduler: async (session, { options, arguments: [given] }) => {
      const { client, signal } = session
      const id = await backupId(session, given, options.vm)
      const answer = await client.ask({ method: 'GET', path: apiPath('backups', id), signal }, 'BackupReply')
      cli.show(answer, () => renderFields(backupFields(answer.backup, cli.clock.now()), cli.colour))
    },
    repository: async ({ repository }, { options, arguments: [id] }) => {
      const { snapshot } = await repository.find(id, options.vm)
      const backup = storedBackup(snapshot, repository.store.description)
      const fields = backupFields(backup, cli.clock.now()).filter(([key]) => key !== 'verified')
      cli.show({ backup }, () =>
        renderFields(
          [...fields, ['signed by', signers[backup.signer]], ['opened by', backup.recipients.join(', ')]],
          cli.colour
        )
      )
    }
  })
}
