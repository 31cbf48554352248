// hostlet audit accept HOST: takes the audit trail of a host as it is from now on.

import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'

export const define: Define = (command, cli) => {
  examples(command.argument('<host>', 'id of the host'), 'hostlet audit accept kvm-1')
  command.addHelpText(
    'after',
    '\nThe scheduler forgets what it has signed for, so that it signs again. Find out first why the trail is another one: "hostlet audit verify --scheduler" on the host.'
  )
  clientCommand<object, readonly [string]>(command, cli, async ({ client, signal }, given) => {
    const [host] = given.arguments
    const path = apiPath('hosts', host, 'audit')
    const answer = await client.ask({ method: 'DELETE', path, signal }, 'Removed')
    cli.show(answer, () => [
      `The audit trail of ${host} is taken as it is from now on. This call is in the scheduler's own audit.`
    ])
  })
}
