// hostlet version: this program's; the scheduler tells its own in `hostlet status`.

import { release } from '../../lib/release.ts'
import { outputOption } from '../cli.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'

export const define: Define = (command, cli) => {
  command.addOption(outputOption(command))
  examples(command, 'hostlet version')
  command.action((options: { output: 'table' | 'json' }) => {
    cli.format = options.output
    const versions = {
      hostlet: release,
      node: process.versions.node,
      platform: `${process.platform} ${process.arch}`
    }
    cli.show(versions, () => [`hostlet ${versions.hostlet} (Node ${versions.node}, ${versions.platform})`])
  })
}
