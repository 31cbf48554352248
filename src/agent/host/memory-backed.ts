// Whether what is written to a directory stays in memory, or would outlive a secret on a disk.

import { statfs } from 'node:fs/promises'

/** Magic numbers of tmpfs and ramfs (statfs(2)). tmpfs may still be swapped out: that is for the host's swap to be encrypted. */
const memoryFileSystems: readonly number[] = [0x01021994, 0x858458f6]

/** Throws what the system says when there is no such path. */
export async function isMemoryBacked(path: string): Promise<boolean> {
  return memoryFileSystems.includes((await statfs(path)).type)
}
