// What is compared between a VM's records and the VM as it is: one table, with how bad a difference is and who puts it right.

import type { DriftItem } from '../../protocol/drift.ts'
import { cpuListText, parseCpuList } from '../resources/topology.ts'
import { devices, disks, networkCard, volumeSizes, volumesMissing } from './device-items.ts'
import { type DriftFacts, type DriftRule, differs, shown } from './rule.ts'

const off = new Set(['stopped', 'crashed'])

export const driftRules: readonly DriftRule[] = [
  {
    id: 'power',
    title: 'runs as it should',
    severity: 'warning',
    repair: 'operator',
    next: 'See why with "hostlet events", then "hostlet vm start" or "hostlet vm stop": nothing is switched on or off by itself.',
    // Without a definition what it was wanted to be is not known any more.
    judge: ({ examination, vm: { wanted, state, reason, retained } }) =>
      retained === undefined && examination.definition !== null && (wanted === 'running') === off.has(state)
        ? differs(wanted, `${state} (${reason})`)
        : undefined
  },
  {
    id: 'autostart',
    title: 'not started by libvirt',
    severity: 'warning',
    repair: 'self',
    next: 'Find out who set it: libvirt would start the VM before its rules and keys are there.',
    judge: ({ examination }) => (examination.autostart ? differs('off', 'on') : undefined)
  },
  {
    id: 'definition',
    title: 'kept when it is off',
    severity: 'critical',
    repair: 'ask',
    next: 'Have it written anew with "hostlet vm repair" before the VM goes off: with its machine libvirt forgets the VM.',
    judge: ({ examination }) =>
      examination.definition === null ? differs('defined', 'only while it runs') : undefined
  },
  {
    id: 'memory',
    title: 'memory as specified',
    severity: 'warning',
    repair: 'ask',
    next: 'Run "hostlet vm repair", or "hostlet vm resize" to what it should be; it counts from the next start.',
    judge: ({ examination: { definition }, vm: { specification } }) =>
      definition !== null && definition.memoryBytes !== specification.memoryBytes
        ? differs(`${specification.memoryBytes} bytes`, `${definition.memoryBytes} bytes`)
        : undefined
  },
  {
    id: 'cpus',
    title: 'vCPUs as specified',
    severity: 'warning',
    repair: 'ask',
    next: 'Run "hostlet vm repair", or "hostlet vm resize" to what it should be; it counts from the next start.',
    judge: ({ examination: { definition }, vm: { specification } }) =>
      definition !== null && definition.vcpus !== specification.cpus
        ? differs(String(specification.cpus), String(definition.vcpus))
        : undefined
  },
  {
    id: 'cpu-limit',
    title: 'CPU time limited as specified',
    severity: 'warning',
    repair: 'self',
    next: 'Find out who changed it: the agent sets it again.',
    judge: cpuLimit
  },
  {
    id: 'cores',
    title: 'on the cores that it was given',
    severity: 'warning',
    repair: 'self',
    next: 'Find out who moved it: the agent moves it back.',
    judge: cores
  },
  {
    id: 'disk-limits',
    title: 'disks limited as placed',
    severity: 'warning',
    repair: 'self',
    next: 'Find out who changed it: the agent sets it again.',
    judge: diskLimits
  },
  {
    id: 'disks',
    title: 'its disks and no others',
    severity: 'critical',
    repair: 'operator',
    next: 'Look with "virsh domblklist": detach what is too much, restore what is missing. Disks are never changed by themselves.',
    judge: disks
  },
  {
    id: 'volume-missing',
    title: 'files of its disks are there',
    severity: 'critical',
    repair: 'operator',
    next: 'Do not stop a VM that runs. Bring the file back, or restore it with "hostlet vm restore".',
    judge: volumesMissing
  },
  {
    id: 'volume-size',
    title: 'disks as large as specified',
    severity: 'warning',
    repair: 'operator',
    next: 'Grow a disk that is too small with "hostlet vm resize"; one that is too large stays, nothing ever shrinks.',
    judge: volumeSizes
  },
  {
    id: 'network-card',
    title: 'its network card and no other',
    severity: 'critical',
    repair: 'operator',
    next: 'Look with "virsh domiflist" and detach what was added: another card has no rules. Stop and start the VM where its own is another.',
    judge: networkCard
  },
  {
    id: 'devices',
    title: 'no device too many',
    severity: 'critical',
    repair: 'operator',
    next: 'Detach it with "virsh detach-device", or stop the VM and take it out with "virsh edit". See "hostlet vm audit".',
    judge: devices
  },
  {
    id: 'agent-channel',
    title: "channel to the guest's agent",
    severity: 'info',
    repair: 'operator',
    next: 'Without it backups freeze no file systems. Put it back with "virsh edit", or reimage the VM.',
    judge: ({ examination: { definition, live } }) => {
      const machine = live ?? definition
      return machine?.devices.some(({ kind }) => kind === 'channel') === false
        ? differs('there', 'missing')
        : undefined
    }
  },
  {
    id: 'user',
    title: 'runs under its own user',
    severity: 'critical',
    repair: 'operator',
    next: 'Stop the VM and look at <seclabel> with "virsh edit": under a user of another VM it can read what is theirs.',
    judge: ({ examination: { definition, live }, vm: { placement } }) => {
      const found = [definition, live].flatMap((machine) => (machine ? [machine.labels.dac ?? ''] : []))
      const wrong = found.find((label) => !label.startsWith(`+${placement.uid}:`))
      return wrong === undefined ? undefined : differs(`user ${placement.uid}`, wrong || 'no user of its own')
    }
  },
  {
    id: 'generation',
    title: 'commands that it carried out are on record',
    severity: 'info',
    repair: 'operator',
    next: 'Somebody wrote its metadata, or the state directory is an older copy. Older commands are refused all the same.',
    judge: ({ vm, generation }) =>
      generation !== undefined && vm.generation > generation
        ? differs(`generation ${generation}`, `generation ${vm.generation}`)
        : undefined
  },
  {
    id: 'keys-in-libvirt',
    title: 'libvirt has the keys of its disks',
    severity: 'warning',
    repair: 'self',
    next: 'The agent tells libvirt again. Where the host lacks them too: "hostlet vm recover-keys".',
    judge: ({ vm: { placement }, secrets, examination }) => {
      const ids = [placement.rootKey, placement.dataKey].filter((id) => id !== undefined)
      const missing =
        secrets === undefined || !examination.running ? [] : ids.filter((id) => !secrets.has(id))
      return missing.length === 0 ? undefined : differs(ids.join(', '), `without ${missing.join(', ')}`)
    }
  },
  {
    id: 'rules',
    title: 'network rules in force',
    severity: 'critical',
    repair: 'self',
    next: 'The agent applies them again. What is in the way is told in the condition "firewall".',
    judge: ({ firewallFault, examination, vm }) =>
      firewallFault !== undefined && examination.running && !vm.placement.trial
        ? differs('in force', firewallFault)
        : undefined
  }
]

/** Every difference of one VM, in the order of the table. */
export function driftIn(facts: DriftFacts): DriftItem[] {
  return driftRules.flatMap(({ judge, ...rule }) => {
    const found = judge(facts)
    return found === undefined ? [] : [{ ...rule, ...found, since: facts.now }]
  })
}

function cpuLimit({ examination: { definition, live }, vm: { specification } }: DriftFacts) {
  const wanted = specification.cpuLimitPercent
  const text = (percent: number | undefined) => (percent === undefined ? 'no limit' : `${percent} %`)
  for (const machine of [live, definition]) {
    // Without a limit libvirt says -1.
    const is = machine?.cpuLimitPercent
    const limit = is === undefined || is <= 0 ? undefined : is
    if (machine && limit !== wanted) return differs(text(wanted), text(limit))
  }
  return undefined
}

function cores({ examination: { live }, vm: { placement } }: DriftFacts) {
  if (live === undefined) return undefined
  const { pinned, shared } = placement.resources ?? {}
  const is = live.pins.map((pin) => cpuListText(parseCpuList(pin)))
  const wanted = is.map((_pin, vcpu) => {
    const cpus = pinned === undefined ? shared : (pinned[vcpu] ?? pinned.flat())
    return cpus && cpuListText(cpus)
  })
  if (pinned !== undefined && is.length === 0)
    return differs(shown(pinned.map(cpuListText)), 'on no cores of its own')
  const wrong = wanted.findIndex((cpus, vcpu) => cpus !== undefined && cpus !== is[vcpu])
  return wrong === -1 ? undefined : differs(wanted[wrong] ?? '', is[wrong] ?? '')
}

function diskLimits({ examination: { definition, live }, vm: { placement } }: DriftFacts) {
  const { bytesPerSecondMax = 0, operationsPerSecondMax = 0 } = placement.resources?.diskLimits ?? {}
  const text = (bytes: number, operations: number) => `${bytes} bytes/s, ${operations} operations/s`
  const wanted = text(bytesPerSecondMax, operationsPerSecondMax)
  for (const disk of [live, definition].flatMap((machine) => machine?.disks ?? [])) {
    const is = text(disk.bytesPerSecondMax ?? 0, disk.operationsPerSecondMax ?? 0)
    if (!disk.isCd && is !== wanted && (disk.target === 'vda' || disk.target === 'vdb'))
      return differs(wanted, `${disk.target}: ${is}`)
  }
  return undefined
}
