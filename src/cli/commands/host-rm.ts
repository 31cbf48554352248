// hostlet host rm HOST: revokes a host.

import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import { asks, confirm } from '../confirm.ts'
import type { Define } from '../define.ts'

export const define: Define = (command, cli) => {
  command.argument('<host>', 'id of the host').option('-y, --yes', 'do not ask (it asks only on a terminal)')
  examples(command, 'hostlet host rm kvm-1', 'hostlet host rm kvm-1 --yes')
  clientCommand<{ yes?: boolean }, readonly [string]>(command, cli, async (session, given) => {
    const { client, signal } = session
    const [id] = given.arguments
    const path = apiPath('hosts', id)
    const { host } = await client.ask({ method: 'GET', path, signal }, 'HostDetail')
    if (asks(session, given.options))
      await confirm(session, {
        text: `Revoke host ${id}? It may not connect any more, and nobody manages its ${vms(host.vmCount)}.`,
        leftAlone: `Host ${id}`
      })
    const answer = await client.ask({ method: 'DELETE', path, signal }, 'Removed')
    if (host.vmCount > 0)
      cli.note(
        `Its ${vms(host.vmCount)} run on. Enroll the machine anew to manage them: hostlet host token`,
        `If it is gone for good, forget them: hostlet vm forget --host ${id}`
      )
    cli.show(answer, () => [`Host ${id} is revoked.`])
  })
}

function vms(count: number): string {
  return `${count} VM${count === 1 ? '' : 's'}`
}
