// hostlet vm ls

import { clientCommand, examples } from '../client-command.ts'
import { deletedColumns, vmColumns } from '../columns.ts'
import type { Define } from '../define.ts'
import { listing } from '../listing.ts'

export const define: Define = (command, cli) => {
  command
    .option('--host <host>', 'only those of one host')
    .option('--deleted', 'only those that were removed and are kept, with when they go')
  examples(command, 'hostlet vm ls', 'hostlet vm ls --host kvm-1 -o json', 'hostlet vm ls --deleted')
  clientCommand<{ host?: string; deleted?: boolean }>(
    command,
    cli,
    async ({ client, signal }, { options }) => {
      const query = { host: options.host, limit: 1_000 }
      const answer = await client.ask({ method: 'GET', path: '/v1/vms', query, signal }, 'VmList')
      const { vms: all, more } = answer
      const now = cli.clock.now()
      const kept = all.filter(({ state }) => state === 'retained')
      if (options.deleted) {
        const none = 'No VM that was removed is kept.'
        cli.show({ vms: kept, more }, () => listing(cli, deletedColumns(now), kept, { none, more }))
        return
      }
      cli.show(answer, () => {
        if (kept.length > 0)
          cli.note(`Removed and kept: ${kept.length}. See them with: hostlet vm ls --deleted`)
        const rest = all.filter(({ state }) => state !== 'retained')
        const none = 'There are no VMs. Make one with: hostlet vm create --help'
        return listing(cli, vmColumns(now), rest, { none, more })
      })
    }
  )
}
