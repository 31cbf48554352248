// hostlet vm erase-certificate NAME|UUID: what the host signed when it erased a VM.

import { writeFileSync } from 'node:fs'
import { HostletError } from '../../errors.ts'
import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { eraseLines } from '../erase-text.ts'

interface Options {
  readonly out?: string
}

export const define: Define = (command, cli) => {
  command
    .argument('<vm>', 'UUID of the VM, or the name of the last that had it; also one that is gone')
    .option('--out <file>', 'write the certificate, a compact JWS, to a file that does not exist')
  examples(
    command,
    'hostlet vm erase-certificate web-1',
    'hostlet vm erase-certificate 0b54e6f2-6b53-4a3e-9d1c-0123456789ab --out web-1.jws'
  )
  clientCommand<Options, readonly [string]>(
    command,
    cli,
    async ({ client, signal }, { options, arguments: [vm] }) => {
      const path = apiPath('vms', vm, 'erase-certificate')
      const answer = await client.ask({ method: 'GET', path, signal }, 'EraseCertificateReply')
      if (options.out !== undefined) write(options.out, answer.certificate)
      cli.show(answer, () => [
        ...eraseLines(answer.claims),
        answer.verified
          ? 'Signed by that host: the scheduler checked it when it came.'
          : `NOT BELIEVED when it came: ${answer.fault ?? 'no reason given'}`,
        ...(options.out === undefined
          ? []
          : [
              `Written to ${options.out}. Check it with: hostlet verify-certificate ${options.out} --ca ca.pem`
            ])
      ])
    }
  )
}

function write(path: string, certificate: string): void {
  try {
    writeFileSync(path, `${certificate}\n`, { flag: 'wx' })
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new HostletError(
      'E_BAD_REQUEST',
      `${path} cannot be written (${code}). Name a file that does not exist.`,
      { cause }
    )
  }
}
