// A pool without room on real libvirt: told as such, and nothing of the VM or its image is left.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { statSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { carry } from '../agent/verbs/bench.ts'
import { openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import {
  cannotProvision,
  guestPath,
  guestSpecification,
  hostOf,
  leftoversOf,
  setupOf
} from './provision-host.ts'

const run = promisify(execFile)
const skip = await cannotProvision()
const imageBytes = skip ? 0 : statSync(guestPath).size

describe('a pool without room', { skip }, () => {
  // The first disk has no room for the image at all, the second none for the VM's own disks.
  for (const [what, size] of [
    ['for the image', Math.floor(imageBytes / 2)],
    ['for the disks of the VM', imageBytes + 16 * 1024]
  ] as const) {
    it(`${what} ends a provision with E_CAPACITY, and nothing is left`, async () => {
      const fixture = await openLibvirtFixture()
      try {
        await mkdir(fixture.pool.path, { recursive: true })
        await run('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', fixture.pool.path])
        const setup = setupOf(fixture)
        const host = await hostOf(fixture.hypervisor, setup)
        const vm = { name: `${fixture.prefix}-full`, uuid: randomUUID() }
        const specification = guestSpecification({ ...vm, dataDiskBytes: 1024 ** 3 })
        const subject = { vm: vm.name, uuid: vm.uuid, generation: 1 }
        const outcome = await carry(host, 'vm.provision', { specification }, { subject })
        assert.equal(outcome.outcome, 'failed')
        assert.equal(
          outcome.outcome === 'failed' && outcome.error.code,
          'E_CAPACITY',
          JSON.stringify(outcome)
        )
        assert.deepEqual(await leftoversOf(host, setup), [])
        await host.close()
      } finally {
        await run('umount', ['-l', fixture.pool.path]).catch(() => undefined)
        await fixture.dispose()
      }
    })
  }
})
