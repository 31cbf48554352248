// hostlet init: makes this machine a host of a fleet, or its scheduler; a second run does what is missing.

import { HostletError } from '../../errors.ts'
import { type Cli, Interrupted } from '../cli.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import type { InitOptions } from '../init/options.ts'

export const define: Define = (command, cli) => {
  command
    .option('--token-file <file>', 'file with a token of "hostlet host token"; "-" is standard input')
    .option(
      '--scheduler <url>',
      'address of the scheduler, where the token does not say it or another is better'
    )
    .option('--ca-hash <hash>', 'what the scheduler’s CA must hash to, where the token does not say it')
    .option('--pool <name>', 'libvirt pool of the disks, made where it is not there (default: hostlet)')
    .option('--pool-path <directory>', 'where disks lie (default: /var/lib/libvirt/images/hostlet)')
    .option('--bridge <device>', 'bridge of the VMs, made as hostlet’s own (default: hl-starter)')
    .option(
      '--subnet <network>',
      'a /16 for the networks of VMs (default: 10.83.0.0/16, or another if that is taken)'
    )
    .option('--ports <range>', 'ports of this host that may lead to VMs (default: 20000-29999)')
    .option(
      '--reserve-memory <size>',
      'what no VM gets (default: 1GiB; on Proxmox what its guests and ZFS have)'
    )
    .addOption(
      command
        .createOption('--accelerator <kind>', 'kvm: no VM without it; tcg: emulate (default: auto)')
        .choices(['auto', 'kvm', 'tcg'])
    )
    .option('--scheduler-here', 'make this machine the scheduler of a fleet instead')
    .option(
      '--name <name...>',
      'with --scheduler-here: by what hosts reach it (default: its name and addresses)'
    )
    .option('--rejoin', 'join anew, in place of the identity that is here; VMs run on')
    .option('--dry-run', 'look, and show what would be done')
    .option('-y, --yes', 'ask nothing')
    .option('--force', 'go on though checks fail')
  examples(
    command,
    'hostlet init                                    asks for what it needs',
    'hostlet init --token-file - <<< hlj_…           the line that "hostlet host token" prints',
    'hostlet init --token-file /root/token --pool-path /srv/hostlet --yes',
    'hostlet init --scheduler-here --name sched-1.example.org',
    'hostlet init --dry-run'
  )
  command.addHelpText('after', help)
  command.action(async (options: InitOptions) => {
    if (process.getuid?.() !== 0)
      throw new HostletError('E_AUTH', '"hostlet init" sets up this machine. Run it as root.')
    refuseMixture(options)
    await cli.interruptible((signal) => setUp(options, cli, signal))
  })
}

const help = `
It looks first (hostlet doctor) and stops where something would keep the host from working. Then it shows
what it will do, and does it: user and directories, /etc/hostlet/agent.yaml with its comments (what was there
is kept beside it), forwarding, joining the scheduler, the unit. Whatever fails: the same line again goes on
from there. VMs are never touched. Ends with 3 when a check fails; with --dry-run with 1 then, with 2 where
something would be done, and with 0 where there is nothing to do.`

async function setUp(options: InitOptions, cli: Cli, signal: AbortSignal): Promise<void> {
  const { initHost } = await import('../init/host.ts')
  const { initScheduler } = await import('../init/scheduler.ts')
  try {
    if (options.schedulerHere === true) await initScheduler(options, cli, signal)
    else await initHost(options, cli, signal)
  } catch (error) {
    if (error instanceof Interrupted) cli.note('Interrupted. The same line again goes on from there.')
    throw error
  }
}

function refuseMixture(options: InitOptions): void {
  const { schedulerHere, name, tokenFile, scheduler, caHash, rejoin, pool, poolPath } = options
  const { bridge, subnet, ports } = options
  const ofHost = Object.entries({
    tokenFile,
    scheduler,
    caHash,
    rejoin,
    pool,
    poolPath,
    bridge,
    subnet,
    ports
  })
    .filter(([, value]) => value !== undefined)
    .map(([key]) => `--${key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`)
  if (schedulerHere === true && ofHost.length > 0)
    throw new HostletError(
      'E_BAD_REQUEST',
      `${ofHost[0]} is for a host, --scheduler-here for the scheduler. A machine that is both takes two runs.`
    )
  if (schedulerHere !== true && name !== undefined)
    throw new HostletError('E_BAD_REQUEST', '--name goes with --scheduler-here only.')
}
