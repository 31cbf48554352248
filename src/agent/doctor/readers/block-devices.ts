// Whether a block device is encrypted: through the layers that the kernel shows below /sys.

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { namesIn } from './files.ts'

/** Layers of device mapper and RAID on top of one another; more is a loop. */
const layersMax = 16

/** True when all that the device lies on is dm-crypt; undefined for what is no block device, such as btrfs or ZFS. */
export async function isEncrypted(device: number, sys = '/sys'): Promise<boolean | undefined> {
  const { major, minor } = numbersOf(device)
  if (major === 0) return undefined
  return await below(join(sys, 'dev', 'block', `${major}:${minor}`), layersMax)
}

async function below(path: string, layers: number): Promise<boolean | undefined> {
  if (layers === 0) return undefined
  const uuid = await readFile(join(path, 'dm', 'uuid'), 'utf8').catch(() => '')
  if (uuid.startsWith('CRYPT-')) return true
  const slaves = await namesIn(join(path, 'slaves')).catch(() => [])
  if (slaves.length === 0) return false
  const answers = await Promise.all(slaves.map((name) => below(join(path, 'slaves', name), layers - 1)))
  return answers.every((answer) => answer === true)
}

/** As the kernel packs them into st_dev (gnu_dev_major, gnu_dev_minor), for numbers that fit 32 bits. */
function numbersOf(device: number): { major: number; minor: number } {
  return { major: (device >>> 8) & 0xfff, minor: (device & 0xff) | ((device >>> 12) & 0xfff00) }
}
