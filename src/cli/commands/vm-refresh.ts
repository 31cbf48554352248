// hostlet vm refresh NAME

import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { vmAction } from '../vm-action.ts'

export const define: Define = (command, cli) => {
  vmAction<object>(command, cli, {
    action: 'refresh',
    body: () => ({}),
    done: ({ value }) => {
      const { name, state } = (value?.vm ?? {}) as { name?: unknown; state?: unknown }
      return `VM ${name} is ${state}.`
    }
  })
  examples(command, 'hostlet vm refresh web-1')
}
