// vm.console: opens a session on a VM's serial console for one operator. The command is the grant: without it there is none.

import { HostletError } from '../../errors.ts'
import {
  consoleAttachMs,
  type VmConsoleParams as Params,
  VmConsoleParams,
  VmConsoleResult
} from '../../protocol/console.ts'
import { consoleLimits } from '../console/consoles.ts'
import type { ConsoleGrant } from '../console/session.ts'
import type { Host } from '../host/host.ts'
import { backupReason, type VmRecord } from '../host/hypervisor.ts'
import { isOff } from '../host/making.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'

export const vmConsole = defineVerb<Host>()({
  name: 'vm.console',
  summary: "Opens a session on a VM's serial console for one operator, who then attaches to it.",
  // A console is wanted most while another operation waits for the VM.
  lock: 'none',
  priority: 'urgent',
  changes: false,
  deadlineMs: 60_000,
  // A session does not outlive the agent, and nobody waits for one that a later start would open.
  afterCrash: 'rollback',
  params: VmConsoleParams,
  result: VmConsoleResult,

  steps: (params, host) => [
    {
      name: 'open the console',
      apply: async (operation) => {
        const { signal } = operation
        const record = await host.vms.require(params.vm, { signal, uuid: params.uuid })
        refuseUnlessOn(record)
        refuseByProfile(record, host)
        await host.consoleSessions.open(grantOf(params, host), operation.id, { signal })
      }
    }
  ],

  async outcome(params, host) {
    const { vm, session, mode, idleMs, longestMs } = grantOf(params, host)
    return { vm, session, mode, idleMs, longestMs, attachMs: consoleAttachMs }
  }
})

/** The shorter of what was asked for and what this host allows. */
function grantOf({ idleMs, longestMs, takeOver, ...params }: Params, { config }: Host): ConsoleGrant {
  const limits = config.console ?? consoleLimits
  return {
    ...params,
    takeOver: takeOver === true,
    idleMs: Math.min(limits.idleMs, idleMs ?? limits.idleMs),
    longestMs: Math.min(limits.longestMs, longestMs ?? limits.longestMs)
  }
}

function refuseUnlessOn(record: VmRecord): void {
  const { name } = record.specification
  const isForBackup = record.state === 'paused' && record.reason === backupReason
  if (!isOff(record) && !isForBackup) return
  const why = isForBackup ? 'off, and its disks are being backed up' : 'off'
  throw new HostletError(
    'E_CONFLICT',
    `VM ${name} is ${why}: there is nothing to see on its console. Start it with "hostlet vm start ${name}".`,
    { details: { vm: name, state: record.state } }
  )
}

function refuseByProfile({ specification: { name, profile } }: VmRecord, { config }: Host): void {
  if (config.profiles[profile]?.console !== false) return
  throw new HostletError(
    'E_AUTH',
    `VMs of profile ${profile} have no console on this host: its configuration says so (profiles.${profile}.console).`,
    { details: { vm: name, profile, reason: 'profile' } }
  )
}

export const document: VerbDocument = {
  errors: {
    E_NOT_FOUND: 'the VM is not defined on this host',
    E_CONFLICT:
      'the VM is off; the name belongs to another VM; or its console is taken, and the answer says by whom and since when',
    E_AUTH: "the VM's profile has no console on this host (`profiles.NAME.console`)",
    E_CAPACITY: 'as many sessions are open as the configuration of the host allows',
    E_LIBVIRT: 'libvirt could not open the console',
    E_INTERRUPTED: 'the agent was stopped meanwhile: ask anew',
    E_UNAVAILABLE: 'libvirt is away'
  },
  crash:
    'A session ends with the agent that it was opened by, and no later one opens it again: the answer is E_INTERRUPTED. A command that was carried out is answered with its result and opens nothing a second time.',
  remarks: [
    'Once it is done the session is open and waits for its operator: see [console.md](../console.md). The operation ends there, the session goes on; the audit trail tells of its beginning and its end.',
    '`by` is who the scheduler says has asked. What goes over the console is in no log, journal or trail.',
    '`idleMs` and `longestMs` can only shorten what the configuration of the host says (`console.idleMs`, `console.longestMs`).',
    'With `commands.forbid: [vm.console]` in its [policy](../operate-policy.md) a host opens none, and it can want approvals as for other verbs.'
  ],
  example: {
    vm: 'web-1',
    uuid: '0b3f6a52-9a0e-4a53-9c1b-0c7b8a2b1c11',
    session: '6a1f2b90-55f1-4c35-8a7e-1f0a93a4d1b2',
    mode: 'write',
    by: 'ada (key 0198c1de-7a10-7c55-8f5b-9d2f64b0e8aa)'
  }
}
