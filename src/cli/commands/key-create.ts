// hostlet key create TIER

import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'

export const define: Define = (command, cli) => {
  command
    .addArgument(
      command
        .createArgument('<tier>', 'what the key may do, each more than the one before')
        .choices(['read', 'manage', 'admin'])
    )
    .option('--note <text>', 'whose it is')
  examples(command, 'hostlet key create read --note dashboard > dashboard.key')
  clientCommand<{ note?: string }, readonly [string]>(command, cli, async ({ client, signal }, given) => {
    const body = {
      tier: given.arguments[0],
      ...(given.options.note === undefined ? {} : { note: given.options.note })
    }
    const created = await client.ask({ method: 'POST', path: '/v1/keys', body, signal }, 'CreatedKey')
    cli.show(created, () => {
      cli.note(`Key ${created.key.id}, tier ${created.key.tier}. Its text is shown this once:`)
      return [created.text]
    })
  })
}
