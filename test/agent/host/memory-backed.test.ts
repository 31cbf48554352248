// Whether a directory lies in memory: asked of the kernel.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { isMemoryBacked } from '../../../src/agent/host/memory-backed.ts'

describe('memory behind a directory', () => {
  it('is told by its file system', async () => {
    const directory = await mkdtemp('/dev/shm/hostlet-memory-')
    try {
      assert.equal(await isMemoryBacked(directory), true)
    } finally {
      await rm(directory, { recursive: true })
    }
    assert.equal(await isMemoryBacked('/proc/self'), false)
    await assert.rejects(isMemoryBacked(join(directory, 'gone')), { code: 'ENOENT' })
  })
})
