// hostlet vm create NAME: the specification of a VM from options, and the way to its running guest.

import { type Command, InvalidArgumentError } from 'commander'
import { HostletError } from '../../errors.ts'
import type { CreateVmRequest, OperationView, VmSpecificationRequest } from '../../protocol/api.ts'
import { clientCommand, examples, type Given } from '../client-command.ts'
import type { Define } from '../define.ts'
import { digestOf } from '../digest.ts'
import { parseHealthProbe } from '../health-probe.ts'
import { declareNetwork, type NetworkOptions, networkOf } from '../network-options.ts'
import { newVmName } from '../new-vm-name.ts'
import { operate, operationOptions } from '../operate.ts'
import { declarePlacement, type PlacementOptions, wishOf } from '../placement-options.ts'
import { formatDuration, parseBytes, parseDuration, parseInteger } from '../quantities.ts'
import { readText } from '../read-text.ts'
import { httpOf, portOf } from '../readiness.ts'
import { sealSeed } from '../seal-seed.ts'
import { sshKeysIn } from '../ssh-keys.ts'

interface Options extends NetworkOptions, PlacementOptions {
  readonly image: string
  readonly sha256: string
  readonly format: 'qcow2' | 'raw'
  readonly host?: string
  readonly profile: string
  readonly cpus: string
  readonly cpuLimit?: string
  readonly memory: string
  readonly disk: string
  readonly dataDisk?: string
  readonly hostname?: string
  readonly sshKeyFile?: readonly string[]
  readonly userData?: string
  readonly hardened?: boolean
  readonly health?: readonly string[]
  /** False with `--no-seed`. */
  readonly seed: boolean
  readonly readyPort?: string
  readonly readyHttp?: string
  readonly readyTimeout?: string
  readonly consoleLog?: boolean
  readonly dryRun?: boolean
  readonly printRequest?: boolean
  readonly wait: boolean
}

export const define: Define = (command, cli) => {
  declare(command)
  clientCommand<Options, readonly [string]>(
    command,
    cli,
    async (session, given) => {
      const request = {
        method: 'POST',
        path: '/v1/vms',
        body: await sealSeed(bodyOf(given), session),
        signal: session.signal
      } as const
      await operate(session, request, {
        options: given.options,
        done: ready,
        isPlaced: given.options.host === undefined
      })
    },
    (given) => {
      const body = bodyOf(given)
      if (given.options.printRequest) cli.print(JSON.stringify(body, null, 2))
      return given.options.printRequest === true
    }
  )
}

/** Throws E_BAD_REQUEST for what cannot be read; names and limits are the scheduler's to judge. */
function bodyOf({ options, arguments: [name] }: Given<Options, readonly [string]>): CreateVmRequest {
  const specification = specificationOf(newVmName(name), options)
  const placement = wishOf(options)
  return {
    specification,
    ...(options.host === undefined ? {} : { host: options.host }),
    ...(placement === undefined ? {} : { placement })
  }
}

function declare(command: Command): void {
  command
    .argument('<vm>', 'name: small letters, digits and dashes')
    .requiredOption('--image <url>', 'https: or file: address of the image (file: on the host)')
    .requiredOption('--sha256 <digest>', 'SHA-256 that the image must have, in hex')
    .option('--format <format>', 'qcow2 or raw', oneOf('qcow2', 'raw'), 'qcow2')
    .option('--host <host>', 'host to put it on (default: the best, see "hostlet host candidates")')
    .option('--profile <profile>', 'isolation profile of the host’s configuration', 'starter')
    .option('--cpus <count>', 'virtual CPUs', '1')
    .option('--cpu-limit <percent>', 'most CPU time it may use, in percent of one core')
    .option('--memory <size>', 'memory', '512MiB')
    .option('--disk <size>', 'size of the root disk', '4GiB')
    .option('--data-disk <size>', 'size of a data disk')
    .option('--hostname <name>', 'host name in the guest (default: the VM’s name)')
    .option('--ssh-key-file <file>', 'file with public SSH keys for the guest; may be repeated', collect)
    .option('--user-data <file>', 'cloud-init user data, in place of what would be written from the keys')
    .option('--hardened', 'shut the guest down to SSH by key and its ports, also with --user-data')
    .option('--no-hardened', 'leave the guest as its image has it (default with --user-data)')
    .option('--no-seed', 'attach no cloud-init seed: the guest learns no name and no key')
    .option('--ready-port <port>', 'ready when this TCP port of the guest answers')
    .option('--ready-http <port/path>', 'ready when this HTTP path answers, such as 80/health')
    .option('--ready-timeout <duration>', 'how long it may take to become ready')
    .option(
      '--health <probe>',
      'watch a service from outside: NAME=tcp:5432, tls:443 or http:80/health; may be repeated',
      collect
    )
    .option('--console-log', 'keep the last lines of its serial console in the host’s memory')
    .option('--print-request', 'print the request as JSON and send nothing')
  declarePlacement(command)
  declareNetwork(command)
  operationOptions(command)
  examples(
    command,
    'hostlet vm create web-1 --image https://images.example.org/debian-12.qcow2 --sha256 4a1c… --memory 1GiB --disk 10GiB',
    'hostlet vm create db-1 --image file:///srv/images/db.qcow2 --sha256 77d0… --cpus 2 --data-disk 50GiB --ready-port 5432',
    'hostlet vm create web-3 --image URL --sha256 DIGEST --egress none --no-dns --publish 20080:80',
    'hostlet vm create web-2 --image URL --sha256 DIGEST --require region=eu --group web --spread-by rack',
    'hostlet vm create web-2 --image URL --sha256 DIGEST --ssh-key-file ~/.ssh/id_ed25519.pub --no-wait'
  )
}

function specificationOf(name: string, options: Options): VmSpecificationRequest {
  const seed = seedOf(options)
  const ready = readinessOf(options)
  const network = networkOf(options)
  return {
    name,
    profile: options.profile,
    image: { url: options.image, sha256: digestOf(options.sha256), format: options.format },
    cpus: parseInteger(options.cpus, { what: '--cpus', minimum: 1, maximum: 256 }),
    ...(options.cpuLimit === undefined
      ? {}
      : {
          cpuLimitPercent: parseInteger(options.cpuLimit, {
            what: '--cpu-limit',
            minimum: 5,
            maximum: 25_600
          })
        }),
    memoryBytes: parseBytes(options.memory),
    rootDiskBytes: parseBytes(options.disk),
    ...(options.dataDisk === undefined ? {} : { dataDiskBytes: parseBytes(options.dataDisk) }),
    ...(seed === undefined ? {} : { seed }),
    ...(ready === undefined ? {} : { ready }),
    ...(options.health === undefined ? {} : { health: options.health.map(parseHealthProbe) }),
    ...(network === undefined ? {} : { network }),
    ...(options.consoleLog ? { consoleLog: true } : {})
  }
}

/** Present even when empty: images with cloud-init look long for one in vain, and it tells the guest its name. */
function seedOf(options: Options): VmSpecificationRequest['seed'] {
  const keys = (options.sshKeyFile ?? []).flatMap((path) =>
    sshKeysIn(readText(path, 'SSH key file'), '--ssh-key-file')
  )
  const userData = options.userData === undefined ? undefined : readText(options.userData, 'user data')
  const seed = {
    ...(options.hostname === undefined ? {} : { hostname: options.hostname }),
    ...(keys.length === 0 ? {} : { sshAuthorizedKeys: keys }),
    ...(userData === undefined ? {} : { userData }),
    ...(options.hardened === undefined ? {} : { hardened: options.hardened })
  }
  if (options.seed) return seed
  if (Object.keys(seed).length === 0) return undefined
  throw new HostletError(
    'E_BAD_REQUEST',
    '--no-seed leaves out host name, SSH keys, user data and hardening. Give either.'
  )
}

function readinessOf(options: Options): VmSpecificationRequest['ready'] {
  const ready = {
    ...(options.readyPort === undefined ? {} : { tcpPort: portOf(options.readyPort, '--ready-port') }),
    ...(options.readyHttp === undefined ? {} : { http: httpOf(options.readyHttp, '--ready-http') }),
    ...(options.readyTimeout === undefined ? {} : { timeoutMs: parseDuration(options.readyTimeout) })
  }
  return Object.keys(ready).length === 0 ? undefined : ready
}

function ready(operation: OperationView): string {
  const address = operation.value?.address
  const where = typeof address === 'string' ? ` at ${address}` : ''
  const took = (operation.finishedAt ?? operation.createdAt) - operation.createdAt
  return `VM ${operation.vm ?? ''} runs on host ${operation.host}${where} (${formatDuration(took)}).`
}

function collect(path: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), path]
}

function oneOf(...words: readonly string[]): (given: string) => string {
  return (given) => {
    if (words.includes(given)) return given
    throw new InvalidArgumentError(`Take one of ${words.join(', ')}.`)
  }
}
