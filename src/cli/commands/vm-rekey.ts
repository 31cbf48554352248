// hostlet vm rekey NAME

import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { vmAction } from '../vm-action.ts'

export const define: Define = (command, cli) => {
  vmAction<object>(command, cli, {
    action: 'rekey',
    body: () => ({}),
    done: (operation) =>
      `The disks of VM ${operation.vm ?? ''} open with new passphrases, and with no old one.`
  })
  examples(command, 'hostlet vm rekey web-1')
}
