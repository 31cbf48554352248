// hostlet completion bash|zsh|fish: prints what the shell loads.

import { examples } from '../client-command.ts'
import { completionScripts, type Shell, shells } from '../completion/scripts.ts'
import type { Define } from '../define.ts'

export const define: Define = (command, cli) => {
  command.addArgument(command.createArgument('<shell>', 'the shell that is to load it').choices(shells))
  examples(
    command,
    'hostlet completion bash > /etc/bash_completion.d/hostlet',
    'hostlet completion zsh > /usr/local/share/zsh/site-functions/_hostlet',
    'hostlet completion fish > ~/.config/fish/completions/hostlet.fish'
  )
  command.action((shell: Shell) => cli.write(completionScripts[shell]))
}
