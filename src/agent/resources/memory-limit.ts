// The memory that a VM's QEMU may take in all: the guest's and a generous allowance for QEMU itself (docs/adr/0013).

export interface MemoryDemand {
  readonly memoryBytes: number
  readonly cpus: number
  /** Disks with a format that keeps tables in memory. */
  readonly disks: number
  readonly accelerator: 'kvm' | 'tcg'
}

const mebibyte = 1024 ** 2
/** QEMU's program, its heap and device buffers: a fifth of this was seen with a busy guest. */
const baseBytes = 512 * mebibyte
/** A vCPU's thread and queues. */
const perCpuBytes = 16 * mebibyte
/** qcow2's tables (32 MiB at most), requests in flight, and the same again for a backup's scratch file and export. */
const perDiskBytes = 96 * mebibyte
/** Page tables, dirty bitmaps of backups, kernel memory that is charged to the group. */
const guestShare = 64
/** QEMU's buffer of translated code is 1 GiB at most. */
const translationBytes = 1024 * mebibyte

/** A whole number of MiB. Above it the kernel ends this QEMU, instead of some process of the host. */
export function memoryLimitBytes({ memoryBytes, cpus, disks, accelerator }: MemoryDemand): number {
  const own =
    baseBytes +
    cpus * perCpuBytes +
    disks * perDiskBytes +
    memoryBytes / guestShare +
    (accelerator === 'tcg' ? translationBytes : 0)
  return Math.ceil((memoryBytes + own) / mebibyte) * mebibyte
}
