// Checks of what the host can do: encrypted disks, TPM, and limits of agent, libvirt and kernel.

import { luksIterationMs } from '../../host/luks-format.ts'
import { both, type Check, fail, over, pass, skip, type Verdict, warn } from '../check.ts'
import type { DoctorFacts, LimitFacts, Settings } from '../facts.ts'

const luksMsGood = 10_000
/** A transfer holds tens of files, a backup one for each disk and worker. */
const agentFilesMin = 4_096
/** Of libvirt's default: at a client's limit the daemon stops reading from it without a word. */
const requestsMin = 5
/** Three connections and those of streams, beside whoever else asks. */
const clientsMin = 20
/** Each VM has dozens of threads: for disks, vCPUs, and QEMU's own. */
const pidMaxMin = 65_536
const usedRatioMax = 0.8
const inotifyMin = 128

export const capabilityChecks: readonly Check[] = [
  {
    id: 'luks',
    title: 'encrypted disks can be made',
    judge: ({ luks }) =>
      over(luks, (trial) => {
        if ('fault' in trial)
          return fail(
            `no: ${trial.fault}`.slice(0, 158),
            'qemu-img of the distribution does it: is another one before it in PATH?'
          )
        return trial.tookMs > luksMsGood
          ? warn(
              `yes, but one takes ${(trial.tookMs / 1_000).toFixed(1)} s`,
              'The host is short of CPU just now: look at "top" and /proc/pressure/cpu.'
            )
          : pass(`one takes ${(trial.tookMs / 1_000).toFixed(1)} s, with iter-time ${luksIterationMs} ms`)
      })
  },
  { id: 'tpm', title: 'TPM', judge: tpm },
  {
    id: 'file-limits',
    title: 'open files of the agent',
    judge: ({ limits }) =>
      over(limits, ({ agentFiles }) => {
        if (agentFiles === undefined) return skip('there is no hostlet.service')
        return agentFiles >= agentFilesMin
          ? pass(String(agentFiles))
          : fail(
              `${agentFiles}: transfers and backups fail when they are used up`,
              'Take LimitNOFILE= out of /etc/systemd/system/hostlet.service.d, then: systemctl daemon-reload && systemctl restart hostlet.'
            )
      })
  },
  { id: 'libvirt-limits', title: "limits of libvirt's daemons", judge: libvirtLimits },
  { id: 'kernel-limits', title: 'limits of the kernel', judge: ({ limits }) => over(limits, kernelLimits) }
]

function tpm({ tpm: hasTpm, tpmSupport }: DoctorFacts): Verdict {
  return both(hasTpm, tpmSupport, (there, { answer, missing }) => {
    if (there && answer === 'yes') return pass('version 2, and systemd can use it')
    const lacks = missing.length === 0 ? 'no TPM 2' : `lacking: ${missing.join(', ')}`
    return warn(
      `${lacks}; credentials of this host can be opened by whoever copies its disk`,
      'Switch the TPM on in the firmware (a virtual one in the hypervisor below); without one lock the disk itself: cryptsetup.'
    )
  })
}

function libvirtLimits({ daemonConf }: DoctorFacts): Verdict {
  return over(daemonConf, (files) => {
    const low = Object.entries(files).flatMap(([file, settings]) =>
      tooLow(settings).map((setting) => ({ file, setting }))
    )
    const [first] = low
    return first === undefined
      ? pass('at their defaults, or above')
      : warn(
          `${first.file}: ${low.map(({ setting }) => setting).join(', ')}`,
          `Take it out of /etc/libvirt/${first.file} and restart the daemon: VMs run on.`
        )
  })
}

function tooLow(settings: Settings): string[] {
  const minima = { max_client_requests: requestsMin, max_clients: clientsMin, max_workers: requestsMin }
  return Object.entries(minima).flatMap(([key, least]) => {
    const value = settings[key]
    return value !== undefined && Number(value) < least ? [`${key} = ${value}`] : []
  })
}

function kernelLimits(limits: LimitFacts): Verdict {
  const { pidMax, aioInUse, aioMax, inotifyInstancesMax, filesInUse, filesMax } = limits
  if (aioInUse > aioMax * usedRatioMax)
    return raise(
      `${aioInUse} of ${aioMax} asynchronous requests in use: disks of VMs fail to open`,
      'fs.aio-max-nr',
      1_048_576
    )
  if (filesInUse > filesMax * usedRatioMax)
    return raise(`${filesInUse} of ${filesMax} files open`, 'fs.file-max', 2 * filesMax)
  if (pidMax < pidMaxMin)
    return raise(`pid_max ${pidMax}: some hundreds of VMs have more threads`, 'kernel.pid_max', 4_194_304)
  if (inotifyInstancesMax < inotifyMin)
    return raise(`${inotifyInstancesMax} inotify instances`, 'fs.inotify.max_user_instances', 1_024)
  return pass(`pid_max ${pidMax}, ${aioInUse} of ${aioMax} asynchronous requests`)
}

function raise(text: string, setting: string, value: number): Verdict {
  return warn(text, {
    run: `echo '${setting} = ${value}' > /etc/sysctl.d/61-hostlet-${setting.split('.').at(-1)}.conf && sysctl --system`
  })
}
