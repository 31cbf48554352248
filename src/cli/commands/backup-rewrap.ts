// hostlet backup rewrap: which keys open the backups, changed without touching the data.

import type { Vault } from '../../backup/vault/vault.ts'
import { HostletError } from '../../errors.ts'
import { recordedOnHost } from '../audit/on-host.ts'
import { withLock } from '../backup/lock.ts'
import {
  badFile,
  checkRepositoryOptions,
  Repository,
  type RepositoryOptions,
  readText,
  repositoryOptions
} from '../backup/repository.ts'
import { type outputFormats, outputOption } from '../cli.ts'
import { examples } from '../client-command.ts'
import { asks, type ConfirmOptions, confirm, yesOption } from '../confirm.ts'
import type { Define } from '../define.ts'

interface Options extends RepositoryOptions, ConfirmOptions {
  readonly vm?: string
  readonly recipient: readonly string[]
  readonly output: (typeof outputFormats)[number]
}

export const define: Define = (command, cli) => {
  repositoryOptions(command)
    .option('--vm <vm>', 'only the backups of one VM, by name or UUID')
    .requiredOption(
      '--recipient <file...>',
      'public keys (JWK) that open the backups from now on; all others open them no more'
    )
    .addOption(outputOption(command))
  yesOption(command)
  command.addHelpText(
    'after',
    '\nA key that has leaked opened what it could: the data stays under the same keys of its VMs. New backups are wrapped as the policy of their host says: change that too. Name the keys of the hosts as well: a host that opens its earlier backups no more takes no new ones.'
  )
  examples(
    command,
    'hostlet backup rewrap --repository file:///mnt/backups --key old.jwk --recipient new.jwk.pub kvm-1.jwk.pub'
  )
  command.action(async (options: Options) => {
    cli.format = options.output
    if (options.repository === undefined)
      throw new HostletError('E_BAD_REQUEST', 'give --repository with the address of the backups.')
    checkRepositoryOptions(options)
    const recipients = await readRecipients(options.recipient)
    await cli.interruptible(async (signal) => {
      if (asks({ cli }, options))
        await confirm(
          { signal },
          {
            text: `Have ${recipients.length} ${recipients.length === 1 ? 'key' : 'keys'} open the backups, and no other any more?`,
            leftAlone: 'Every backup'
          }
        )
      await using repository = await Repository.open(cli, options, signal)
      const rewrapped = []
      const before = new Set<string>()
      for (const { vault, snapshots: were } of await repository.vaults(options.vm)) {
        for (const one of were) if (one.state === 'good') for (const kid of one.recipients) before.add(kid)
        const snapshots = await rewrap(vault, signal)
        rewrapped.push({ uuid: vault.vm, snapshots })
        cli.note(`VM ${vault.vm}: ${snapshots.length} backup${snapshots.length === 1 ? '' : 's'}`)
      }
      const shut = [...before].filter((kid) => !recipients.some((recipient) => recipient.kid === kid))
      if (shut.length > 0)
        cli.note(
          `They are opened no more by ${shut.join(', ')}. If a host has one of these keys, it can neither go on with these backups nor restore them: rewrap again with its public key too ("hostlet backup keygen --public-of FILE", on the host).`
        )
      const count = rewrapped.reduce((sum, { snapshots }) => sum + snapshots.length, 0)
      cli.show({ recipients: recipients.map(({ kid }) => kid), shutOut: shut, rewrapped }, () => [
        `${count} backups of ${rewrapped.length} VM${rewrapped.length === 1 ? '' : 's'} are now opened by ${recipients.map(({ kid }) => kid).join(', ')}, and by no other key.`
      ])
    })

    async function rewrap(vault: Vault, signal: AbortSignal): Promise<readonly string[]> {
      const facts = {
        uuid: vault.vm,
        recipients: recipients
          .map(({ kid }) => kid)
          .join(' ')
          .slice(0, 1_024)
      }
      return recordedOnHost(cli, { action: 'backup rewrap', facts }, () =>
        withLock({ cli, vault, what: 'hostlet backup rewrap', signal }, (held) =>
          vault.rewrap(recipients, { signal: held.signal })
        )
      )
    }
  })
}

async function readRecipients(paths: readonly string[]) {
  const { parsePublicKey } = await import('../../agent/keys/jwk.ts')
  return Promise.all(paths.map((path) => badFile(parsePublicKey(readText(path, 'public key'), path))))
}
