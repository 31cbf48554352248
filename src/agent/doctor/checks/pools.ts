// Checks of where disks lie: the pools as libvirt knows them, and what their file systems have left.

import { type Check, fail, over, pass, skip, type Verdict, warn } from '../check.ts'
import type { DoctorFacts, PoolSpace } from '../facts.ts'

const freeBytesMin = 2 * 1024 ** 3
const freeRatioMin = 0.05
const freeRatioGood = 0.15
const inodesRatioMin = 0.01
const inodesRatioGood = 0.05
/** What ext4 keeps for root by default is 5 percent: on a disk of VMs nobody has any use for it. */
const reservedRatioMax = 0.02

export const poolChecks: readonly Check[] = [
  { id: 'pools', title: 'pools of the configuration', judge: pools },
  { id: 'pool-space', title: 'room for disks', judge: ({ poolSpace }) => overWorst(poolSpace, space) },
  { id: 'pool-inodes', title: 'room for files', judge: ({ poolSpace }) => overWorst(poolSpace, inodes) },
  {
    id: 'pool-file-system',
    title: 'file system of the disks',
    judge: ({ poolSpace }) => overWorst(poolSpace, fileSystem)
  }
]

function pools({ libvirt }: DoctorFacts): Verdict {
  return over(libvirt, ({ pools: found }) => {
    const stopped = found.filter(({ state }) => state === 'stopped').map(({ name }) => name)
    if (stopped.length > 0)
      return fail(`${stopped.join(', ')} is stopped: no VM with a disk there starts`, {
        run: stopped.map((name) => `virsh pool-start ${name}`).join(' && ')
      })
    const silent = found.filter(({ state }) => state === 'silent').map(({ name }) => name)
    if (silent.length > 0)
      return fail(
        `libvirt does not say how ${silent.join(', ')} is: its storage may hang`,
        'Look at its disk or file server (dmesg, /proc/mounts), then at libvirt: virsh pool-list --all.'
      )
    const absent = found.filter(({ state }) => state === 'undefined').map(({ name }) => name)
    return absent.length > 0
      ? pass(`${absent.join(', ')} not made yet: the agent makes it when it starts`)
      : pass(found.map(({ name }) => name).join(', '))
  })
}

function overWorst(spaces: DoctorFacts['poolSpace'], judge: (space: PoolSpace) => Verdict): Verdict {
  return over(spaces, (all) => {
    if (all.length === 0) return skip('no pool was made yet')
    const verdicts = all.map(judge)
    return (
      verdicts.find(({ status }) => status === 'failed') ??
      verdicts.find(({ status }) => status === 'warning') ??
      pass(verdicts.map(({ message }) => message).join('; '))
    )
  })
}

function space({ path, sizeBytes, freeBytes }: PoolSpace): Verdict {
  const ratio = freeBytes / sizeBytes
  const text = `${path}: ${gibibytes(freeBytes)} of ${gibibytes(sizeBytes)} free`
  const fix = `Make it larger, or remove what is not needed: du -xsh ${path}/*, hostlet vm ls, hostlet host clean ID.`
  if (freeBytes < freeBytesMin || ratio < freeRatioMin)
    return fail(`${text}: VMs are held when they write to a full disk`, fix)
  return ratio < freeRatioGood ? warn(`${text}: disks are thin and may outgrow it`, fix) : pass(text)
}

function inodes({ path, inodes: all, inodesFree }: PoolSpace): Verdict {
  if (all === 0) return pass(`${path}: without a limit`)
  const ratio = inodesFree / all
  const text = `${path}: ${inodesFree} of ${all} inodes free`
  const fix = `Something else fills it with small files: find ${path} -xdev | wc -l. A file system's number of inodes is set when it is made.`
  if (ratio < inodesRatioMin) return fail(`${text}: no new disk can be made`, fix)
  return ratio < inodesRatioGood ? warn(text, fix) : pass(text)
}

function fileSystem({ path, sizeBytes, reservedBytes, isRoot }: PoolSpace): Verdict {
  if (isRoot)
    return warn(
      `${path} is on the file system of /: disks that fill it stop the host's own logs and upgrades`,
      'Give it a file system of its own (a disk, an LVM volume), mounted there before the agent starts.'
    )
  return reservedBytes > sizeBytes * reservedRatioMax
    ? warn(`${path}: ${gibibytes(reservedBytes)} are kept for root, and no VM may use them`, {
        run: `tune2fs -m 0 "$(findmnt -n -o SOURCE -T ${path})"`
      })
    : pass(`${path}: its own`)
}

function gibibytes(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(bytes < 10 * 1024 ** 3 ? 1 : 0)} GiB`
}
