// What "hostlet init" says of its checks, and how it ends.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Finding } from '../../../src/agent/doctor/checks.ts'
import { isFit } from '../../../src/cli/init/fit.ts'
import type { InitOptions } from '../../../src/cli/init/options.ts'

function told(options: InitOptions, failures: readonly Finding[], warnings: readonly Finding[] = []) {
  const lines: string[] = []
  const cli = {
    note: (...more: string[]) => void lines.push(...more),
    noteTerminal: false,
    colour: false,
    exitStatus: 0
  }
  const fit = isFit({ failures, warnings }, options, cli)
  return { fit, text: lines.join('\n'), status: cli.exitStatus }
}

const finding = (status: 'failed' | 'warning'): Finding => ({
  id: 'libvirt',
  title: 'libvirt answers',
  status,
  group: 'Software',
  message: 'it does not answer',
  fix: 'Start it.'
})

describe('the checks of a set-up', () => {
  it('say in a dry run that nothing is in the way', () => {
    const well = told({ dryRun: true }, [])
    assert.deepEqual([well.fit, well.text, well.status], [true, 'Nothing is in the way.', 0])
    const warned = told({ dryRun: true }, [], [finding('warning')])
    assert.ok(warned.fit)
    assert.match(warned.text, /libvirt answers[\s\S]*Nothing of that is in the way\./)
    assert.equal(told({}, []).text, '')
  })

  it('say what would stop it, and end as a plan does; without --dry-run as the doctor', () => {
    const dry = told({ dryRun: true }, [finding('failed')])
    assert.deepEqual([dry.fit, dry.status], [false, 1])
    assert.match(
      dry.text,
      /does not answer[\s\S]*It would stop here: 1 check failed\. Mend that and run this again/
    )
    const real = told({}, [finding('failed'), finding('failed')])
    assert.deepEqual([real.fit, real.status], [false, 3])
    assert.match(real.text, /Nothing was changed: 2 checks failed\. Mend them/)
    assert.ok(told({ dryRun: true, force: true }, [finding('failed')]).fit)
  })
})
