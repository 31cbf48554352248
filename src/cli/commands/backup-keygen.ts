// hostlet backup keygen: a recovery key pair; the private half is to be kept away from every host.

import { resolve } from 'node:path'
import { HostletError } from '../../errors.ts'
import { privateFileMode } from '../../lib/private-file.ts'
import { badFile, readText } from '../backup/repository.ts'
import { type outputFormats, outputOption } from '../cli.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { publicFileMode, writeNewFiles } from '../key-files.ts'

interface Options {
  readonly out?: string
  readonly publicOf?: string
  readonly output: (typeof outputFormats)[number]
}

export const define: Define = (command, cli) => {
  command
    .option('--out <file>', 'new file for the private key; the public one gets .pub behind its name')
    .option('--public-of <file>', 'make no key: print the public half of the private key in the file')
    .addOption(outputOption(command))
  command.addHelpText(
    'after',
    '\nKeep the private key offline and in more than one place: it opens the backups when the host is gone. Put the public one into the policy of the hosts as a recipient.'
  )
  examples(
    command,
    'hostlet backup keygen --out recovery.jwk',
    'hostlet backup keygen --public-of /var/lib/hostlet/backup-key.jwk > kvm-1.jwk.pub'
  )
  command.action(async (options: Options) => {
    cli.format = options.output
    const { out, publicOf } = options
    if ((out === undefined) === (publicOf === undefined))
      throw new HostletError(
        'E_BAD_REQUEST',
        'give --out for a new key, or --public-of for the public half of one that there is.'
      )
    const { createPrivateKey, parsePrivateKey, publicHalf } = await import('../../agent/keys/jwk.ts')
    if (publicOf !== undefined) {
      const half = publicHalf(await badFile(parsePrivateKey(readText(publicOf, 'private key'), publicOf)))
      cli.show(half, () => JSON.stringify(half, undefined, 2).split('\n'))
      return
    }
    const key = await createPrivateKey()
    const path = resolve(out ?? '')
    writeNewFiles([
      { path, mode: privateFileMode, text: `${JSON.stringify(key, undefined, 2)}\n` },
      {
        path: `${path}.pub`,
        mode: publicFileMode,
        text: `${JSON.stringify(publicHalf(key), undefined, 2)}\n`
      }
    ])
    cli.show({ kid: key.kid, privateKeyFile: path, publicKeyFile: `${path}.pub` }, () => [
      `private key: ${path} (keep it offline, and a copy elsewhere)`,
      `public key:  ${path}.pub (for the policy of the hosts)`,
      `thumbprint:  ${key.kid}`
    ])
  })
}
