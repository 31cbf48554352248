// hostlet vm undelete NAME

import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { vmAction } from '../vm-action.ts'

export const define: Define = (command, cli) => {
  vmAction<object>(command, cli, {
    action: 'undelete',
    body: () => ({}),
    done: (operation) => `VM ${operation.vm ?? ''} is back.`
  })
  examples(command, 'hostlet vm undelete web-1')
}
