// On what a path lies: memory, or a disk and whether that is encrypted; told by the numbers of its file system and device.

/** `f_type` of statfs, from linux/magic.h. */
const magic = {
  tmpfs: 0x0102_1994,
  ramfs: 0x8584_58f6,
  ext: 0xef53,
  xfs: 0x5846_5342,
  btrfs: 0x9123_683e,
  zfs: 0x2fc1_2fc1,
  bcachefs: 0xca45_1a4e,
  overlay: 0x794c_7630,
  nfs: 0x6969,
  fuse: 0x6573_5546
} as const
export type FileSystemName = keyof typeof magic

const inMemory: readonly number[] = [magic.tmpfs, magic.ramfs]

export function isInMemory(type: number | bigint): boolean {
  return inMemory.includes(Number(type))
}

/** Undefined for one that nobody here needs to know. */
export function fileSystemName(type: number | bigint): FileSystemName | undefined {
  const names = Object.keys(magic) as FileSystemName[]
  return names.find((name) => magic[name] === Number(type))
}

/** What writes anew instead of in place, so that an overwritten file's old blocks stay until they are needed. */
export function keepsOldBlocks(name: FileSystemName | undefined): boolean {
  return name === 'btrfs' || name === 'zfs' || name === 'bcachefs'
}
