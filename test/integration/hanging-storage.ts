// Storage that really hangs: a file system of its own on a loop device, whose writes wait in the kernel from freeze to thaw.

import { execFile, spawn } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import { mkdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const bytes = 512 * 1024 ** 2
/** After it the guard thaws whatever became of the test. */
const frozenSecondsMax = 240

/** False when it can be made here, otherwise the reason why not. */
export function cannotHang(): string | false {
  if (process.getuid?.() !== 0) return 'takes root'
  const missing = ['/usr/sbin/fsfreeze', '/usr/sbin/losetup', '/dev/loop-control'].filter(
    (path) => !existsSync(path)
  )
  return missing.length === 0 ? false : `takes ${missing.join(', ')}`
}

export class HangingStorage implements AsyncDisposable {
  readonly path: string
  readonly #image: string
  readonly #guarded: string

  private constructor(directory: string) {
    this.path = join(directory, 'mount')
    this.#image = join(directory, 'storage.img')
    this.#guarded = join(directory, 'guarded')
  }

  /** Mounts it below an empty directory, which is the caller's to remove. */
  static async mount(directory: string): Promise<HangingStorage> {
    const storage = new HangingStorage(directory)
    await mkdir(storage.path, { recursive: true, mode: 0o711 })
    await writeFile(storage.#image, '')
    await truncate(storage.#image, bytes)
    await run('mkfs.ext4', ['-q', '-F', storage.#image])
    await run('mount', ['-o', 'loop', storage.#image, storage.path])
    return storage
  }

  /** From now on every write waits. A guard of its own thaws it when this process is gone, or after some minutes. */
  async freeze(): Promise<void> {
    await writeFile(this.#guarded, '')
    const script = `i=0
while [ -e "$1" ] && kill -0 "$2" && [ $i -lt ${frozenSecondsMax} ]; do sleep 1; i=$((i + 1)); done
fsfreeze -u "$0"`
    const args = ['-c', script, this.path, this.#guarded, String(process.pid)]
    spawn('sh', args, { detached: true, stdio: 'ignore' }).unref()
    await run('fsfreeze', ['-f', this.path])
  }

  /** No effect when it is not frozen. */
  async thaw(): Promise<void> {
    await run('fsfreeze', ['-u', this.path]).catch(() => undefined)
    rmSync(this.#guarded, { force: true })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.thaw()
    // The loop device goes with its last mount.
    await run('umount', ['-l', this.path])
  }
}
