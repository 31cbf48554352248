// hostlet verify-certificate FILE --ca CA: checks an erase certificate without any scheduler.

import { verifyEraseCertificate } from '../../scheduler/erasures.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { eraseLines } from '../erase-text.ts'
import { readText } from '../read-text.ts'

interface Options {
  readonly ca: string
  readonly trustDomain?: string
  readonly output?: 'table' | 'json'
}

export const define: Define = (command, cli) => {
  command
    .argument('<file>', 'the certificate, a compact JWS')
    .requiredOption('--ca <file>', "PEM file of the fleet's CA: ca.pem of the scheduler's state directory")
    .option('--trust-domain <name>', 'also check that its host belongs to this trust domain')
    .option('-o, --output <format>', 'table or json', 'table')
    .action((file: string, options: Options) => {
      cli.format = options.output ?? 'table'
      const jws = readText(file, 'certificate').trim()
      const authorities = [readText(options.ca, 'CA')]
      const { trustDomain } = options
      const claims = verifyEraseCertificate(jws, {
        authorities,
        ...(trustDomain !== undefined && { trustDomain })
      })
      cli.show(claims, () => [`Good: signed by host ${claims.host} of this CA.`, ...eraseLines(claims)])
    })
  command.addHelpText(
    'after',
    '\nExits with 0 when the certificate is good, and with another status otherwise.'
  )
  examples(command, 'hostlet verify-certificate web-1.jws --ca /var/lib/hostlet-scheduler/ca.pem')
}
