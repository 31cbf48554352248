// hostlet key rm ID

import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import { asks, type ConfirmOptions, confirm, yesOption } from '../confirm.ts'
import type { Define } from '../define.ts'
import { noSuchThing } from '../given-names.ts'
import { uuidPattern } from '../why/subject.ts'

export const define: Define = (command, cli) => {
  yesOption(command.argument('<key>', 'id of the key, as "hostlet key ls" shows it'))
  examples(command, 'hostlet key rm ID', 'hostlet key rm ID --yes')
  clientCommand<ConfirmOptions, readonly [string]>(command, cli, async (session, given) => {
    const { client, signal } = session
    const [id] = given.arguments
    if (!uuidPattern.test(id)) throw noSuchThing(apiPath('keys', id))
    if (asks(session, given.options))
      await confirm(session, {
        text: `Revoke key ${id}? Whoever uses it is refused from now on.`,
        leftAlone: `Key ${id}`
      })
    const answer = await client.ask({ method: 'DELETE', path: apiPath('keys', id), signal }, 'Removed')
    cli.show(answer, () => [`Key ${id} is revoked.`])
  })
}
