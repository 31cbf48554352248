// A program of its own: reads a directory's file system, writes there where it may, and tells what it did. Storage that hangs holds it, and nobody else.

import { closeSync, constants, fsyncSync, openSync, statfsSync, statSync, writeSync } from 'node:fs'

/** linux/fcntl.h: a file without a name, which is gone when it is closed. */
const withoutName = 0o20_000_000 | constants.O_DIRECTORY
/** No right to, or a file system that is mounted read-only or has no such files: then it is not written. */
const notHere: readonly unknown[] = ['EACCES', 'EPERM', 'EROFS', 'EOPNOTSUPP', 'EISDIR', 'ENOSPC', 'EDQUOT']

const [, , path = ''] = process.argv
statSync(path)
statfsSync(path)
process.stdout.write(write(path) ? 'written' : 'read')

function write(directory: string): boolean {
  try {
    const file = openSync(directory, withoutName | constants.O_RDWR, 0o600)
    writeSync(file, 'x')
    fsyncSync(file)
    closeSync(file)
    return true
  } catch (error) {
    if (notHere.includes((error as NodeJS.ErrnoException).code)) return false
    throw error
  }
}
