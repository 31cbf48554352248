// The directory store: the promises of every store, and what only file systems can do wrong.

import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { directoryError } from '../../../src/backup/repository/directory-errors.ts'
import {
  DirectoryStore,
  partialAgeMaxMs,
  partialsFolder
} from '../../../src/backup/repository/directory-store.ts'
import { HostletError } from '../../../src/errors.ts'
import { mustRun } from '../../../src/lib/run-process.ts'
import { hasCode, names, objectStoreContract } from './store.contract.ts'

const wait = { signal: new AbortController().signal }
const bytes = (text: string) => [Buffer.from(text)]
const base = await mkdtemp(join(tmpdir(), 'hl-t-store-'))
after(() => rm(base, { recursive: true, force: true }))

async function newDirectory(): Promise<string> {
  return await mkdtemp(join(base, 'repository-'))
}

async function opened(path: string, run: (store: DirectoryStore) => Promise<void>): Promise<void> {
  const store = await DirectoryStore.open(path)
  try {
    await run(store)
  } finally {
    await store.close()
  }
}

objectStoreContract('a directory', {
  open: async () => DirectoryStore.open(await newDirectory()),
  conditionalWrites: true
})

describe('directory store', () => {
  it('keeps files and folders to their owner, whatever the umask', async () => {
    const path = await newDirectory()
    const umask = process.umask(0)
    try {
      await opened(path, (store) => store.put('vms/a/one', bytes('x'), wait))
    } finally {
      process.umask(umask)
    }
    const modes = await Promise.all(
      ['vms', 'vms/a', 'vms/a/one', partialsFolder].map(
        async (name) => (await stat(join(path, name))).mode & 0o777
      )
    )
    assert.deepEqual(modes, [0o700, 0o700, 0o600, 0o700])
  })

  it('leaves no half-made file after a write, a refused write and an abort', async () => {
    const path = await newDirectory()
    await opened(path, async (store) => {
      await store.put('one', bytes('x'), { ...wait, ifAbsent: true })
      await assert.rejects(store.put('one', bytes('y'), { ...wait, ifAbsent: true }), hasCode('E_CONFLICT'))
      const controller = new AbortController()
      const putting = store.put('two', [Buffer.alloc(20_000_000)], { signal: controller.signal })
      controller.abort(new Error('enough'))
      await assert.rejects(putting, /enough/)
    })
    // Closing has waited for the write that was given up.
    assert.deepEqual(await readdir(join(path, partialsFolder)), [])
    assert.deepEqual(await readdir(path), [partialsFolder, 'one'].sort())
  })

  it('lists no half-made files, and sweeps those of dead writers by the age that the file system says', async () => {
    const path = await newDirectory()
    await mkdir(join(path, partialsFolder))
    for (const name of ['old', 'new']) await writeFile(join(path, partialsFolder, name), 'half')
    const old = (Date.now() - partialAgeMaxMs - 60_000) / 1_000
    await utimes(join(path, partialsFolder, 'old'), old, old)
    await opened(path, async (store) => {
      assert.deepEqual(await names(store), [])
      await store.put('one', bytes('x'), wait)
      assert.deepEqual(await names(store), ['one'])
    })
    assert.deepEqual(await readdir(join(path, partialsFolder)), ['new'])
  })

  it('follows no link out of its root, neither for reading nor for writing', async () => {
    const path = await newDirectory()
    const outside = await newDirectory()
    await writeFile(join(outside, 'secret'), 'secret')
    await mkdir(join(path, 'vms'))
    await symlink(outside, join(path, 'vms', 'folder'))
    await symlink(join(outside, 'secret'), join(path, 'vms', 'file'))
    await opened(path, async (store) => {
      await assert.rejects(store.get('vms/folder/secret', wait), hasCode('E_CORRUPT'))
      await assert.rejects(store.get('vms/file', wait), hasCode('E_CORRUPT'))
      await assert.rejects(store.put('vms/folder/new', bytes('x'), wait), hasCode('E_CORRUPT'))
      await assert.rejects(store.remove('vms/folder/secret', wait), hasCode('E_CORRUPT'))
      assert.deepEqual(await names(store), [])
      await store.put('vms/file', bytes('ours'), wait)
    })
    assert.deepEqual(await readdir(outside), ['secret'])
    assert.equal(await readFile(join(outside, 'secret'), 'utf8'), 'secret')
    assert.equal(await readFile(join(path, 'vms', 'file'), 'utf8'), 'ours')
  })

  it('is not held up by a pipe in the place of an object', async () => {
    const path = await newDirectory()
    await mustRun('mkfifo', [join(path, 'one')], { ...wait, deadlineMs: 5_000 })
    await opened(path, async (store) => {
      await assert.rejects(store.get('one', wait), hasCode('E_CORRUPT'))
      assert.deepEqual(await names(store), [])
    })
  })

  it('refuses a file that is larger than any object', async () => {
    const path = await newDirectory()
    await mustRun('truncate', ['-s', '1T', join(path, 'one')], { ...wait, deadlineMs: 5_000 })
    await opened(path, (store) => assert.rejects(store.get('one', wait), hasCode('E_CORRUPT')))
  })

  it('lists folders of more entries than it reads at once', async () => {
    const path = await newDirectory()
    await mkdir(join(path, 'packs'))
    const expected = Array.from({ length: 700 }, (_, index) => `packs/${index}`).sort()
    await Promise.all(expected.map((name) => writeFile(join(path, name), '')))
    await opened(path, async (store) => assert.deepEqual(await names(store, 'packs/'), expected))
  })

  it('says what to do when the directory is not there', async () => {
    await assert.rejects(DirectoryStore.open(join(base, 'absent')), (error: Error) => {
      assert.match(error.message, /absent is no directory\. Mount it/)
      return hasCode('E_NOT_FOUND')(error as never)
    })
  })

  it('tells refusals of the file system apart by what is to be done', () => {
    const meanings = Object.entries({
      EACCES: 'E_AUTH',
      EDQUOT: 'E_CAPACITY',
      ESTALE: 'E_UNAVAILABLE',
      EIO: 'E_UNAVAILABLE'
    })
    for (const [systemCode, code] of meanings) {
      const error = directoryError(Object.assign(new Error('x'), { code: systemCode }), 'file:///srv', 'one')
      assert.ok(error instanceof HostletError)
      assert.equal(error.code, code)
      assert.ok(error.message.endsWith(`(${systemCode} at "one").`), error.message)
    }
    const bug = new TypeError('a bug')
    assert.equal(directoryError(bug, 'file:///srv', 'one'), bug)
  })

  it('writes as one with another store of the same directory', async () => {
    const path = await newDirectory()
    await opened(path, (first) =>
      opened(path, async (second) => {
        const attempts = await Promise.allSettled(
          [first, second, first, second].map((store) =>
            store.put('one', bytes('x'), { ...wait, ifAbsent: true })
          )
        )
        assert.equal(attempts.filter(({ status }) => status === 'fulfilled').length, 1)
      })
    )
  })
})

const isRoot = process.getuid?.() === 0

describe('directory store on a file system of its own', {
  skip: isRoot ? false : 'mounting needs root'
}, () => {
  async function mounted(options: string, run: (path: string) => Promise<void>): Promise<void> {
    const path = await newDirectory()
    await mustRun('mount', ['-t', 'tmpfs', '-o', options, 'hl-t-store', path], { ...wait, deadlineMs: 5_000 })
    try {
      await run(path)
    } finally {
      await mustRun('umount', [path], { ...wait, deadlineMs: 5_000 })
    }
  }

  it('says E_CAPACITY when it is full, keeps what was there, and works again after space was freed', async () => {
    await mounted('size=4m', (path) =>
      opened(path, async (store) => {
        const mebibytes = (count: number) => [Buffer.alloc(count * 1_048_576, 1)]
        await store.put('a/kept', mebibytes(2), wait)
        await assert.rejects(store.put('a/other', mebibytes(3), wait), (error: Error) => {
          assert.match(error.message, /no space left\. Free some, or prune/)
          return hasCode('E_CAPACITY')(error as never)
        })
        await assert.rejects(store.put('a/kept', mebibytes(3), wait), hasCode('E_CAPACITY'))
        assert.deepEqual(await names(store), ['a/kept'])
        assert.equal((await store.get('a/kept', wait)).length, 2 * 1_048_576)
        assert.deepEqual(await readdir(join(path, partialsFolder)), [])
        await store.remove('a/kept', wait)
        await store.put('a/other', mebibytes(3), wait)
      })
    )
  })

  it('says E_CAPACITY when there is no room for another name', async () => {
    await mounted('size=4m,nr_inodes=5', (path) =>
      opened(path, async (store) => {
        await store.put('one', bytes('x'), wait)
        await assert.rejects(
          (async () => {
            for (const name of ['two', 'three', 'four', 'five']) await store.put(name, bytes('x'), wait)
          })(),
          hasCode('E_CAPACITY')
        )
        assert.equal((await store.get('one', wait)).length, 1)
      })
    )
  })

  it('says E_UNAVAILABLE when it is mounted read-only', async () => {
    await mounted('size=1m,ro', (path) =>
      opened(path, (store) => assert.rejects(store.put('one', bytes('x'), wait), hasCode('E_UNAVAILABLE')))
    )
  })
})
