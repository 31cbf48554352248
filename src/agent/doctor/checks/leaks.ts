// Checks of what could write a passphrase, or a guest's memory, to a disk.

import { both, type Check, fail, over, pass, skip, type Verdict, warn } from '../check.ts'
import type { DoctorFacts, Place, Settings, SwapArea } from '../facts.ts'
import { keepsOldBlocks } from '../file-systems.ts'

const mountFix = {
  run: 'systemctl enable var-log-libvirt-qemu.mount',
  note: 'then reboot, or start it while no VM runs. Logs from before stay below it: remove them first.'
}
const logFreeRatioMin = 0.1

export const leakChecks: readonly Check[] = [
  {
    id: 'passphrases',
    title: 'QEMU logs and libvirt keys apart',
    judge: ({ places: { logs, keys } }) => both(logs, keys, passphrases)
  },
  {
    id: 'log-removal',
    title: "QEMU's log goes with its VM",
    judge: ({ places: { logs }, agentUser }) => both(logs, agentUser, logRemoval)
  },
  {
    id: 'log-space',
    title: "room for QEMU's logs",
    judge: ({ logSpace }) =>
      over(logSpace, ({ sizeBytes, freeBytes }) =>
        freeBytes < sizeBytes * logFreeRatioMin
          ? warn(
              `${Math.round((freeBytes / sizeBytes) * 100)} % left: without room no VM starts`,
              'Remove logs of VMs that are gone, or give the mount a larger size=.'
            )
          : pass(`${Math.round((freeBytes / sizeBytes) * 100)} % left`)
      )
  },
  {
    id: 'daemon-logs',
    title: "libvirt's daemons log no secrets",
    judge: ({ daemonConf }) => over(daemonConf, daemonLogs)
  },
  { id: 'swap', title: 'swap', judge: ({ swap }) => over(swap, swapVerdict) },
  {
    id: 'hibernation',
    title: 'hibernation',
    judge: ({ hibernation, swap }) =>
      over(hibernation, (possible) => {
        if (!possible) return pass('not possible')
        const safe = 'value' in swap && swap.value.every((area) => area.safe)
        return safe
          ? pass('only to encrypted swap')
          : fail("it would write every guest's memory to disk", {
              run: 'systemctl mask hibernate.target hybrid-sleep.target suspend-then-hibernate.target',
              note: 'and remove resume= from the kernel command line.'
            })
      })
  },
  { id: 'core-dumps', title: 'core dumps of QEMU', judge: coreDumps },
  {
    id: 'managed-save',
    title: 'guests saved at host shutdown',
    judge: ({ guestsService, qemuConf }) =>
      over(guestsService, ({ enabled, onShutdown }) => {
        // Upstream's default.
        if (enabled && (onShutdown ?? 'suspend') === 'suspend')
          return fail("libvirt-guests writes every guest's memory to disk when the host shuts down", {
            run: 'echo ON_SHUTDOWN=shutdown >> /etc/default/libvirt-guests',
            note: '/etc/sysconfig/libvirt-guests on Red Hat.'
          })
        const save = 'value' in qemuConf ? qemuConf.value.auto_shutdown_try_save : undefined
        return save === undefined || save === '"none"'
          ? pass('no')
          : fail(
              `qemu.conf: auto_shutdown_try_save = ${save}`,
              'Set auto_shutdown_try_save = "none" in qemu.conf.'
            )
      })
  },
  {
    id: 'memory-images',
    title: 'saved machines and dumps on disk',
    judge: ({ memoryImages, places: { keys } }) =>
      over(memoryImages, (paths) => {
        if (paths.length === 0) return pass('none')
        const encrypted = 'value' in keys && keys.value.encrypted === true
        const text = `${paths.length} with a guest's memory: ${paths.slice(0, 3).join(', ')}`
        return encrypted
          ? pass(`${text}, on an encrypted disk`)
          : fail(text, 'virsh managedsave-remove, or remove the file. Its blocks stay until overwritten.')
      })
  },
  {
    id: 'runtime-directory',
    title: 'runtime directory in memory',
    judge: ({ places: { runtime } }) =>
      over(runtime, ({ path, inMemory, encrypted }) =>
        inMemory
          ? pass(path)
          : encrypted
            ? pass(`${path}, on an encrypted disk`)
            : fail(
                `${path} is on disk: seeds with their secrets would be`,
                'Have it below /run, which systemd keeps in memory, or mount a tmpfs there.'
              )
      )
  },
  {
    id: 'state-file-system',
    title: 'keys that are removed are gone',
    judge: ({ places: { state } }) =>
      over(state, ({ path, fileSystem, encrypted }) =>
        keepsOldBlocks(fileSystem) && encrypted !== true
          ? warn(
              `${path} is on ${fileSystem}, which keeps old blocks and snapshots of keys that were erased`,
              'Put the state directory on ext4 or XFS, or encrypt the disk; keep it out of snapshots.'
            )
          : pass(`${path} on ${fileSystem ?? 'a file system that overwrites'}`)
      )
  }
]

function onOpenDisk({ inMemory, encrypted }: Place): boolean {
  return !inMemory && encrypted !== true
}

function placeText({ inMemory, encrypted, fileSystem }: Place): string {
  return inMemory ? 'in memory' : encrypted ? 'on an encrypted disk' : `on disk (${fileSystem ?? 'other'})`
}

function passphrases(logs: Place, keys: Place): Verdict {
  if (onOpenDisk(logs) && onOpenDisk(keys))
    return fail('both are on disk, and together give the passphrase of every encrypted disk', mountFix)
  return pass(`logs ${placeText(logs)}, keys ${placeText(keys)}`)
}

function logRemoval({ mode, uid, gid, path }: Place, agent: { uid: number; gid: number } | null): Verdict {
  if (agent === null) return skip('there is no user "hostlet" on this machine')
  if ((mode & 0o002) !== 0)
    return fail(`everybody may write to ${path}`, {
      run: `chmod o-w ${path}`,
      note: 'a link there has root write elsewhere.'
    })
  const may = (uid === agent.uid && (mode & 0o200) !== 0) || (gid === agent.gid && (mode & 0o020) !== 0)
  return may
    ? pass('the agent may remove it')
    : warn(
        `the agent may not remove logs in ${path}: they outlive their VM`,
        'Use the mount that hostlet ships, which gives its group the directory; or remove them as root.'
      )
}

/** At level 1 the daemons write QEMU's command lines and what they tell its monitor. */
function daemonLogs(files: Readonly<Record<string, Settings>>): Verdict {
  const noisy = Object.entries(files).filter(([, settings]) => {
    const outputs = text(settings.log_outputs)
    const filters = text(settings.log_filters)
    const debugging = settings.log_level === '1' || /(^|\s)1:/.test(filters)
    return debugging || /(^|\s)1:(file|syslog|journald)/.test(outputs)
  })
  if (noisy.length === 0) return pass('no debug log')
  return fail(
    `debug log in ${noisy.map(([name]) => name).join(', ')}: it holds what QEMU's command line holds`,
    'Take log_level, log_filters and log_outputs of level 1 out again, remove the log, restart the daemon (VMs run on).'
  )
}

function swapVerdict(areas: readonly SwapArea[]): Verdict {
  const open = areas.filter(({ safe }) => !safe)
  if (areas.length === 0) return pass('none')
  if (open.length === 0) return pass(`${areas.length} encrypted or in memory`)
  return fail(
    `${open.map(({ name }) => name).join(', ')} is not encrypted: guests' memory and keys get there`,
    'swapoff -a and take it out of /etc/fstab, or encrypt it with a random key (crypttab: swap,cipher=aes-xts-plain64).'
  )
}

function coreDumps({ qemuConf, corePattern }: DoctorFacts): Verdict {
  return over(qemuConf, (settings) => {
    const size = settings.max_core
    if (size !== undefined && size !== '0' && size !== '"0"')
      return fail(
        `qemu.conf: max_core = ${size}: a crash of QEMU writes the keys of its disks to disk`,
        'Take max_core out of qemu.conf, or set it to 0.'
      )
    return over(corePattern, (pattern) => {
      // A program that is given core dumps is run whatever the limit; systemd's heeds it, others do as they like.
      if (pattern.startsWith('|') && !pattern.includes('systemd-coredump'))
        return warn(`limit 0, but ${pattern.split(' ')[0]} gets every core dump and may not heed it`, {
          run: 'sysctl kernel.core_pattern=core',
          note: 'and disable apport or what else set it.'
        })
      return pass('limit 0')
    })
  })
}

function text(setting: string | undefined): string {
  return setting?.replaceAll('"', '') ?? ''
}
