// hostlet image prefetch

import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { digestOf } from '../digest.ts'
import { operate, operationOptions } from '../operate.ts'

interface Options {
  readonly host: string
  readonly image: string
  readonly sha256: string
  readonly format: string
  readonly wait: boolean
}

export const define: Define = (command, cli) => {
  command
    .requiredOption('--host <host>', 'host that fetches it')
    .requiredOption('--image <url>', 'https: or file: address of the image (file: on the host)')
    .requiredOption('--sha256 <digest>', 'SHA-256 that the image must have, in hex')
    .addOption(
      command.createOption('--format <format>', 'of the image').choices(['qcow2', 'raw']).default('qcow2')
    )
  operationOptions(command)
  examples(
    command,
    'hostlet image prefetch --host kvm-1 --image https://images.example.org/debian-12.qcow2 --sha256 4a1c…'
  )
  clientCommand<Options>(command, cli, async (session, { options }) => {
    const { host, image: url, format } = options
    const body = { url, sha256: digestOf(options.sha256), format }
    const request = {
      method: 'POST',
      path: apiPath('hosts', host, 'images'),
      body,
      signal: session.signal
    } as const
    await operate(session, request, {
      options,
      done: () => `Host ${host} has the image.`
    })
  })
}
