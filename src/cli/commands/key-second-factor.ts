// hostlet key second-factor: sets up that of one's own key, makes new recovery codes, or removes that of a key.

import type { Command } from 'commander'
import { HostletError } from '../../errors.ts'
import { ApiClient, apiPath } from '../api-client.ts'
import type { Cli } from '../cli.ts'
import { examples } from '../client-command.ts'
import { type ConnectionOptions, connectionOptions, findConnection, findScheduler } from '../connection.ts'
import type { Define } from '../define.ts'
import { apiKeyOf } from '../given-names.ts'
import { SecretInput } from '../secret-input.ts'

interface Options extends ConnectionOptions {
  readonly remove?: boolean
  readonly recoveryCodes?: boolean
}

export const define: Define = (command: Command, cli) => {
  command
    .argument('[key]', 'with --remove: id of the key, as "hostlet key ls" shows it')
    .option('--remove', 'remove that of a key whose owner has lost the device (needs an admin key)')
    .option('--recovery-codes', 'new recovery codes in place of all before (after "hostlet login")')
  examples(
    command,
    'hostlet key second-factor --api-key-file ada.key',
    'hostlet key second-factor --recovery-codes',
    'hostlet key second-factor ID --remove'
  )
  connectionOptions(command).action(async (id: string | undefined, options: Options) => {
    cli.format = options.output ?? 'table'
    const run = choose(id, options)
    await cli.interruptible((signal) => run(cli, options, signal))
  })
}

type Run = (cli: Cli, options: Options, signal: AbortSignal) => Promise<void>

/** Throws E_BAD_REQUEST for what does not go together. */
function choose(id: string | undefined, { remove, recoveryCodes }: Options): Run {
  if (remove && recoveryCodes)
    throw new HostletError('E_BAD_REQUEST', 'give --remove or --recovery-codes, not both.')
  if (remove && id === undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      'give the id of the key whose second factor is to go: hostlet key ls.'
    )
  if (!remove && id !== undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      'one’s own key alone can be given a second factor: leave the id out, or give --remove.'
    )
  if (id !== undefined) return (cli, options, signal) => removeFactor(cli, options, { id, signal })
  return recoveryCodes ? renewCodes : setUp
}

async function setUp(cli: Cli, options: Options, signal: AbortSignal): Promise<void> {
  const place = await findScheduler(cli, options)
  const input = new SecretInput(cli)
  const apiKey = place.key ?? apiKeyOf(await input.ask('API key: ', signal))
  using client = new ApiClient({ ...place, apiKey })
  const begin = { method: 'POST', path: '/v1/second-factor', body: {}, signal } as const
  const { uri, secret } = await client.ask(begin, 'BegunFactor')
  cli.note('Add this to your authenticator app:', '', `  ${uri}`, '')
  cli.note(`or type the secret: ${(secret.match(/.{1,4}/g) ?? []).join(' ')}`, '')
  const code = await input.ask('First code that it shows: ', signal)
  const confirm = { method: 'POST', path: '/v1/second-factor/confirm', body: { code }, signal } as const
  tellCodes(cli, await client.ask(confirm, 'RecoveryCodes'))
  cli.note('The key alone only opens sessions from now on: hostlet login')
}

async function renewCodes(cli: Cli, options: Options, signal: AbortSignal): Promise<void> {
  using client = new ApiClient(await findConnection(cli, options))
  const request = { method: 'POST', path: '/v1/second-factor/recovery-codes', body: {}, signal } as const
  tellCodes(cli, await client.ask(request, 'RecoveryCodes'))
}

async function removeFactor(
  cli: Cli,
  options: Options,
  { id, signal }: { id: string; signal: AbortSignal }
): Promise<void> {
  using client = new ApiClient(await findConnection(cli, options))
  const path = apiPath('keys', id, 'second-factor')
  const answer = await client.ask({ method: 'DELETE', path, signal }, 'Removed')
  cli.show(answer, () => [`The second factor of key ${id} is removed, and its sessions have ended.`])
}

function tellCodes(cli: Cli, answer: { recoveryCodes: readonly string[] }): void {
  cli.show(answer, () => {
    cli.note('Recovery codes, each good once in place of a code. Keep them apart from the key:')
    return answer.recoveryCodes
  })
}
