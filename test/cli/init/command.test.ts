// The command itself: what does not go together is refused before anything is looked at.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { hostlet } from '../program.ts'

const isRoot = process.getuid?.() === 0

describe('hostlet init', () => {
  it('is for root', { skip: isRoot ? 'this is root' : false }, async () => {
    const { status, stderr } = await hostlet(['init'])
    assert.equal(status, 6)
    assert.match(stderr, /Run it as root/)
  })

  it('refuses what does not go together', { skip: isRoot ? false : 'this takes root' }, async () => {
    const wrong: readonly (readonly [string[], RegExp])[] = [
      [['--scheduler-here', '--ports', '1-2'], /--ports is for a host/],
      [['--scheduler-here', '--token-file', '-'], /--token-file is for a host/],
      [['--name', 'sched-1'], /--name goes with --scheduler-here/],
      [['--accelerator', 'fast'], /Allowed choices are auto, kvm, tcg/]
    ]
    for (const [words, message] of wrong) {
      const { status, stderr } = await hostlet(['init', ...words])
      assert.equal(status, 2, stderr)
      assert.match(stderr, message)
    }
  })

  it('refuses a token that is damaged, without repeating it', {
    skip: isRoot ? false : 'this takes root'
  }, async () => {
    const { status, stderr } = await hostlet(['init', '--dry-run'], { HOSTLET_TOKEN: 'hlj_c2VjcmV0' })
    // A dry run has statuses of its own.
    assert.equal(status, 1)
    assert.match(stderr, /the join token is damaged/)
    assert.doesNotMatch(stderr, /c2VjcmV0|secret/)
  })
})
