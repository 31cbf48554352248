// hostlet approver keygen: the key pair of an approver; the private half stays with the person.

import { resolve } from 'node:path'
import { privateFileMode } from '../../lib/private-file.ts'
import { checkApproverName, createApproverKey, publicHalf } from '../approver-key.ts'
import { type outputFormats, outputOption } from '../cli.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { publicFileMode, writeNewFiles } from '../key-files.ts'

interface Options {
  readonly out: string
  readonly name?: string
  readonly output: (typeof outputFormats)[number]
}

export const define: Define = (command, cli) => {
  command
    .requiredOption('--out <file>', 'new file for the private key; the public one gets .pub behind its name')
    .option('--name <name>', 'as the policies of the hosts name the person')
    .addOption(outputOption(command))
  command.addHelpText(
    'after',
    '\nKeep the private key with the person, away from hosts, from the scheduler and from whoever has an API key: two locks help where nobody holds both keys. The public one goes into the policy of the hosts.'
  )
  examples(command, 'hostlet approver keygen --name alice --out alice.jwk')
  command.action(async (options: Options) => {
    cli.format = options.output
    if (options.name !== undefined) checkApproverName(options.name)
    const key = await createApproverKey(options.name)
    const half = publicHalf(key)
    const path = resolve(options.out)
    const text = (value: object) => `${JSON.stringify(value, undefined, 2)}\n`
    writeNewFiles([
      { path, mode: privateFileMode, text: text(key) },
      { path: `${path}.pub`, mode: publicFileMode, text: text(half) }
    ])
    cli.show({ kid: key.kid, privateKeyFile: path, publicKeyFile: `${path}.pub`, publicKey: half }, () => [
      `private key: ${path} (keep it with the person, and offline)`,
      `public key:  ${path}.pub`,
      `thumbprint:  ${key.kid}`,
      'for the policy of the hosts, commands.approvals.approvers:',
      `  ${options.name ?? 'NAME'}: { jwk: { kty: OKP, crv: Ed25519, x: ${key.x} } }`
    ])
  })
}
