// Steps side by side: what they leave, and that none runs on when another fails.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { together } from '../../../src/agent/operations/together.ts'
import type { Operation, Step } from '../../../src/agent/operations/verb.ts'

const operation = {} as Operation

function held(name: string, done: string[]): { step: Step; release: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  const apply = async () => {
    done.push(`${name} begins`)
    await promise
    done.push(`${name} ends`)
    return { [name]: true }
  }
  return { step: { name, apply, undo: async () => void done.push(`undo ${name}`) }, release: resolve }
}

describe('steps together', () => {
  it('begin at the same time, and leave the notes of all', async () => {
    const done: string[] = []
    const [one, two] = [held('one', done), held('two', done)]
    const applied = together([one.step, two.step]).apply(operation)
    assert.deepEqual(done, ['one begins', 'two begins'])
    two.release()
    one.release()
    assert.deepEqual(await applied, { one: true, two: true })
  })

  it('fail only once every one of them has ended', async () => {
    const done: string[] = []
    const slow = held('slow', done)
    const broken: Step = { name: 'broken', apply: () => Promise.reject<undefined>(new Error('broken')) }
    const applied = Promise.resolve(together([broken, slow.step]).apply(operation))
    const failed = applied.then(
      () => assert.fail('did not fail'),
      (error: Error) => done.push(error.message)
    )
    setImmediate(slow.release)
    await failed
    assert.deepEqual(done, ['slow begins', 'slow ends', 'broken'])
  })

  it('are all undone, also when the undo of one fails', async () => {
    const done: string[] = []
    const stubborn: Step = {
      name: 'stubborn',
      apply: async () => undefined,
      undo: () => Promise.reject(new Error('stubborn'))
    }
    const without: Step = { name: 'without', apply: async () => undefined }
    const undone = together([stubborn, without, held('last', done).step]).undo?.(operation)
    await assert.rejects(async () => await undone, /stubborn/)
    assert.deepEqual(done, ['undo last'])
  })
})
