// hostlet vm reimage NAME: another image for the root disk of a VM.

import { InvalidArgumentError } from 'commander'
import type { ReimageRequest } from '../../protocol/api.ts'
import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import { confirmLasting, yesToLastingOption } from '../confirm.ts'
import type { Define } from '../define.ts'
import { digestOf } from '../digest.ts'
import { type OperationOptions, operate, operationOptions } from '../operate.ts'
import { parseDuration } from '../quantities.ts'
import { readText } from '../read-text.ts'
import { addressText } from '../vm-action.ts'

interface Options extends OperationOptions {
  readonly image: string
  readonly sha256: string
  readonly format: 'qcow2' | 'raw'
  readonly readyTimeout?: string
  readonly userData?: string
  readonly yes?: boolean
}

export const define: Define = (command, cli) => {
  command
    .argument('<vm>', 'name of the VM')
    .requiredOption('--image <url>', 'https: or file: address of the image (file: on the host)')
    .requiredOption('--sha256 <digest>', 'SHA-256 that the image must have, in hex')
    .option('--format <format>', 'qcow2 or raw', format, 'qcow2')
    .option(
      '--ready-timeout <duration>',
      'how long it may take to become ready; then it has its old disk back'
    )
    .option('--user-data <file>', 'cloud-init user data, which the host does not keep from before')
  operationOptions(yesToLastingOption(command))
  examples(
    command,
    'hostlet vm reimage web-1 --image https://images.example.org/debian-13.qcow2 --sha256 8f43… --ready-timeout 5m'
  )
  clientCommand<Options, readonly [string]>(command, cli, async (session, { options, arguments: [name] }) => {
    const body = bodyOf(options)
    await confirmLasting(session, options, {
      text: `Replace the root disk of VM ${name}? What is on it is lost once the new one is up.`,
      leftAlone: `VM ${name}`
    })
    const path = apiPath('vms', name, 'reimage')
    const request = { method: 'POST', path, body, signal: session.signal } as const
    await operate(session, request, {
      options,
      done: (ended) => `VM ${name} runs from its new image${addressText(ended)}.`
    })
  })
}

function bodyOf(options: Options): ReimageRequest {
  const { readyTimeout, userData } = options
  return {
    image: { url: options.image, sha256: digestOf(options.sha256), format: options.format },
    ...(readyTimeout === undefined ? {} : { readyWithinMs: parseDuration(readyTimeout) }),
    ...(userData === undefined ? {} : { seed: { userData: readText(userData, 'user data') } })
  }
}

function format(given: string): string {
  if (given === 'qcow2' || given === 'raw') return given
  throw new InvalidArgumentError('Take one of qcow2, raw.')
}
