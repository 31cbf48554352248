// hostlet vm export NAME: the VM as a file for "hostlet apply".

import { stringify } from 'yaml'
import { manifestOf } from '../apply/export.ts'
import { requireExisting } from '../apply/look.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'

export const define: Define = (command, cli) => {
  command.argument('<vms...>', 'names of the VMs')
  command.addHelpText(
    'after',
    '\nUser data is not part of it: nobody keeps any. Applied again, the file changes nothing.'
  )
  examples(command, 'hostlet vm export web-1 > web-1.yaml', 'hostlet vm export web-1 web-2 > web.yaml')
  clientCommand<object, readonly [readonly string[]]>(
    command,
    cli,
    async (session, { arguments: [names] }) => {
      const manifests: ReturnType<typeof manifestOf>[] = []
      for (const name of names) {
        const existing = await requireExisting(session, name)
        manifests.push(manifestOf(existing, existing.host))
      }
      cli.show(manifests.length === 1 ? manifests[0] : manifests, () => [
        manifests
          .map((manifest) => stringify(manifest, { lineWidth: 0 }))
          .join('---\n')
          .trimEnd()
      ])
    }
  )
}
