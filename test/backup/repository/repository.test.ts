// What is taken for a repository, what becomes one, and what is refused.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { openStore } from '../../../src/backup/repository/open-store.ts'
import { ensureRepository, repositoryObject } from '../../../src/backup/repository/repository.ts'
import type { HostletError } from '../../../src/errors.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { hasCode, names } from './store.contract.ts'

const wait = { signal: new AbortController().signal }
const context = { clock: systemClock, signal: wait.signal }

async function holding(name: string, text: string): Promise<MemoryStore> {
  const store = new MemoryStore()
  await store.put(name, [Buffer.from(text)], wait)
  return store
}

describe('repository', () => {
  for (const conditionalWrites of [true, false])
    it(`gets one id, also from two at once (${conditionalWrites ? 'with' : 'without'} conditional writes)`, async () => {
      // Every answer takes a turn of the loop, so that the two meet at each step.
      const after = () => new Promise<void>((resolve) => setImmediate(resolve))
      const store = new MemoryStore({ conditionalWrites, after })
      const made = await Promise.all([ensureRepository(store, wait), ensureRepository(store, wait)])
      const found = await ensureRepository(store, wait)
      assert.equal(found.format, 1)
      for (const { id } of made) assert.equal(id, found.id)
      assert.deepEqual(await names(store), [repositoryObject])
    })

  it('is not made where something else is, or where it should have been', async () => {
    const store = await holding('photos/cat.jpg', 'x')
    await assert.rejects(ensureRepository(store, wait), (error: HostletError) => {
      assert.match(error.message, /holds something else already \("photos\/cat\.jpg"\)/)
      return error.code === 'E_CONFLICT'
    })
    await assert.rejects(
      ensureRepository(new MemoryStore(), { ...wait, create: false }),
      hasCode('E_NOT_FOUND')
    )
    assert.deepEqual(await names(store), ['photos/cat.jpg'])
  })

  it('is refused in a newer format, and when its description is damaged', async () => {
    const id = 'e2d3b0ac-5c59-4c2d-9a4e-0123456789ab'
    const cases = {
      [JSON.stringify({ format: 2, id })]: 'E_UNSUPPORTED',
      [JSON.stringify({ format: 1, id: '../x' })]: 'E_CORRUPT',
      [JSON.stringify({ format: 0, id })]: 'E_CORRUPT',
      '{"format":1': 'E_CORRUPT',
      null: 'E_CORRUPT',
      '': 'E_CORRUPT'
    }
    for (const [text, code] of Object.entries(cases))
      await assert.rejects(ensureRepository(await holding(repositoryObject, text), wait), hasCode(code), text)
  })

  it('opens directories by their address', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'hl-t-repository ä-'))
    try {
      const store = await openStore({ url: pathToFileURL(directory).href }, context)
      await ensureRepository(store, wait)
      assert.deepEqual(await names(store), [repositoryObject])
      await store.close()
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })

  it('refuses addresses that are none, without repeating what may be a secret in them', async () => {
    const urls = [
      'backups',
      '/srv/backups',
      'https://bucket/x',
      'file://host/srv',
      'file:///srv?x=sesame',
      's3://key:sesame@bucket/x',
      's3://bucket/x?secret=sesame',
      's3://UPPER_/x',
      's3://b/x',
      's3://bucket/a//b'
    ]
    for (const url of urls)
      await assert.rejects(
        openStore({ url }, context),
        (error: HostletError) => error.code === 'E_BAD_REQUEST' && !error.message.includes('sesame'),
        url
      )
    const settings = { url: 's3://bucket/x', endpoint: 'http://key:sesame@host' }
    await assert.rejects(openStore(settings, context), hasCode('E_BAD_REQUEST'))
  })

  it('asks for no credentials anywhere else when none are given', async () => {
    const settings = { url: 's3://bucket/x', endpoint: 'http://127.0.0.1:9' }
    await assert.rejects(openStore(settings, context), hasCode('E_AUTH'))
  })
})
