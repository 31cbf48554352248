// hostlet vm start NAME

import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { addressText, vmAction } from '../vm-action.ts'

export const define: Define = (command, cli) => {
  vmAction<object>(command, cli, {
    action: 'start',
    body: () => ({}),
    done: (operation) => `VM ${operation.vm ?? ''} runs${addressText(operation)}.`
  })
  examples(command, 'hostlet vm start web-1', 'hostlet vm start web-1 --no-wait')
}
