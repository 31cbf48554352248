// hostlet audit accept HOST: takes the audit trail of a host as it is from now on.

import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import { asks, type ConfirmOptions, confirm, yesOption } from '../confirm.ts'
import type { Define } from '../define.ts'

export const define: Define = (command, cli) => {
  yesOption(command.argument('<host>', 'id of the host'))
  examples(command, 'hostlet audit accept kvm-1', 'hostlet audit accept kvm-1 --yes')
  command.addHelpText(
    'after',
    '\nThe scheduler forgets what it has signed for, so that it signs again. Find out first why the trail is another one: "hostlet audit verify --scheduler" on the host.'
  )
  clientCommand<ConfirmOptions, readonly [string]>(command, cli, async (session, given) => {
    const { client, signal } = session
    const [host] = given.arguments
    if (asks(session, given.options))
      await confirm(session, {
        text: `Take the audit trail of host ${host} as it is? What was signed of it before proves nothing any more.`,
        leftAlone: `The audit trail of host ${host}`
      })
    const path = apiPath('hosts', host, 'audit')
    const answer = await client.ask({ method: 'DELETE', path, signal }, 'Removed')
    cli.show(answer, () => [
      `The audit trail of ${host} is taken as it is from now on. This call is in the scheduler's own audit.`
    ])
  })
}
