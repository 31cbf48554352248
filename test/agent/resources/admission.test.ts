// What a host takes: memory and processors at the overcommit of each profile, and texts that say what to do.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  admit,
  type Demand,
  plainTerms,
  requireRoomBeside,
  type Supply
} from '../../../src/agent/resources/admission.ts'
import { refuseLooser, tighterLimits } from '../../../src/agent/resources/disk-limits.ts'
import { hugePagesIn } from '../../../src/agent/resources/host-machine.ts'
import { memoryLimitBytes } from '../../../src/agent/resources/memory-limit.ts'
import { parseProcessLimits } from '../../../src/agent/resources/process-limits.ts'

const gibibyte = 1024 ** 3
const supply: Supply = {
  memoryBytes: 9 * gibibyte,
  hugepageBytes: 0,
  reserveBytes: gibibyte,
  sharedCpus: 2
}

function demand(change: Partial<Demand> = {}, terms: Partial<Demand['terms']> = {}): Demand {
  return {
    name: 'web-1',
    cpus: 1,
    memoryBytes: gibibyte,
    ...change,
    terms: { ...plainTerms, cpuOvercommit: 4, ...terms }
  }
}

describe('admission', () => {
  it('takes what fits beside the others and the reserve, and nothing more', () => {
    const others = [demand({ memoryBytes: 5 * gibibyte })]
    admit(demand({ memoryBytes: 3 * gibibyte }), others, supply)
    assert.throws(() => admit(demand({ memoryBytes: 3 * gibibyte + 1024 ** 2 }), others, supply), {
      code: 'E_CAPACITY',
      message:
        /^VM web-1 needs 3073 MiB of memory, the host has 3072 MiB left of the 8192 MiB for VMs \(1024 MiB are the host's own\)\. Stop/
    })
  })

  it('weighs memory by the overcommit of each VM’s own profile', () => {
    const others = [demand({ memoryBytes: 8 * gibibyte }, { memoryOvercommit: 2 })]
    admit(demand({ memoryBytes: 4 * gibibyte }), others, supply)
    admit(demand({ memoryBytes: 8 * gibibyte }, { memoryOvercommit: 2 }), others, supply)
    assert.throws(() => admit(demand({ memoryBytes: 5 * gibibyte }), others, supply), { code: 'E_CAPACITY' })
  })

  it('takes as many vCPUs on shared processors as the profile says', () => {
    const others = Array.from({ length: 7 }, () => demand({ memoryBytes: 0 }))
    admit(demand({ memoryBytes: 0 }), others, supply)
    assert.throws(() => admit(demand({ cpus: 2, memoryBytes: 0 }), others, supply), {
      code: 'E_CAPACITY',
      message:
        /^VM web-1 needs 2 vCPUs, the host has room for 1 more on the 2 processors that VMs share at an overcommit of 4/
    })
    admit(demand({ cpus: 64, memoryBytes: 0 }, { cpu: 'pinned' }), others, supply)
  })

  it('counts huge pages apart from other memory', () => {
    const some = { ...supply, hugepageBytes: 2 * gibibyte }
    const huge = (bytes: number) => demand({ memoryBytes: bytes }, { hugepages: true })
    admit(huge(gibibyte), [huge(gibibyte), demand({ memoryBytes: 6 * gibibyte })], some)
    assert.throws(() => admit(huge(gibibyte + 1024 ** 2), [huge(gibibyte)], some), {
      code: 'E_CAPACITY',
      message:
        /needs 1025 MiB of huge pages, the host has 1024 MiB left of 2048 MiB\. Set more aside with "sysctl/
    })
    assert.throws(() => admit(demand({ memoryBytes: 7 * gibibyte }), [], some), { code: 'E_CAPACITY' })
  })

  it('gives no core away that those who share need', () => {
    const sharing = Array.from({ length: 5 }, () => demand())
    requireRoomBeside('own', sharing, { sharedCpus: 2 })
    assert.throws(() => requireRoomBeside('own', sharing, { sharedCpus: 1 }), { code: 'E_CAPACITY' })
    assert.throws(() => requireRoomBeside('own', [], { sharedCpus: 0 }), { code: 'E_CAPACITY' })
  })
})

describe('limits', () => {
  it('of disks are the tighter of profile and VM', () => {
    assert.deepEqual(tighterLimits({ bytesPerSecondMax: 10_000 }, { operationsPerSecondMax: 50 }), {
      bytesPerSecondMax: 10_000,
      operationsPerSecondMax: 50
    })
    assert.deepEqual(tighterLimits({ bytesPerSecondMax: 10_000 }, { bytesPerSecondMax: 9_000 }), {
      bytesPerSecondMax: 9_000
    })
    assert.deepEqual(tighterLimits({}, undefined), {})
    const vm = { name: 'web-1', profile: 'starter', diskLimits: { operationsPerSecondMax: 500 } }
    refuseLooser(vm, {})
    refuseLooser(vm, { operationsPerSecondMax: 500 })
    assert.throws(() => refuseLooser(vm, { operationsPerSecondMax: 499 }), {
      code: 'E_BAD_REQUEST',
      message: /asks for diskLimits\.operationsPerSecondMax 500, its profile starter allows 499/
    })
  })

  it('of memory leave QEMU more than it needs, and grow with what makes it need more', () => {
    const vm = { memoryBytes: gibibyte, cpus: 1, disks: 1, accelerator: 'kvm' } as const
    const limit = memoryLimitBytes(vm)
    assert.equal(limit % 1024 ** 2, 0)
    assert.ok(limit - vm.memoryBytes > 512 * 1024 ** 2)
    for (const more of [
      { cpus: 2 },
      { disks: 2 },
      { memoryBytes: 2 * gibibyte },
      { accelerator: 'tcg' as const }
    ])
      assert.ok(memoryLimitBytes({ ...vm, ...more }) > limit, JSON.stringify(more))
  })

  it('of a process are read from /proc', () => {
    const limits = [
      'Limit                     Soft Limit           Hard Limit           Units     ',
      'Max core file size        0                    0                    bytes     ',
      'Max processes             96364                512                  processes ',
      'Max locked memory         8388608              unlimited            bytes     '
    ].join('\n')
    const status = 'Name:\tqemu\nThreads:\t7\nNoNewPrivs:\t1\nSeccomp:\t2\nCpus_allowed_list:\t0-1\n'
    assert.deepEqual(parseProcessLimits(limits, status), {
      processesMax: 512,
      threads: 7,
      seccomp: 'filter',
      noNewPrivileges: true,
      lockedBytesMax: null,
      coreBytesMax: 0,
      cpus: '0-1'
    })
  })

  it('of huge pages are what is set aside, less what is promised', () => {
    const text =
      'HugePages_Total:     128\nHugePages_Free:      100\nHugePages_Rsvd:       10\nHugepagesize:       2048 kB\n'
    assert.deepEqual(hugePagesIn(text), { totalBytes: 128 * 2 * 1024 ** 2, freeBytes: 90 * 2 * 1024 ** 2 })
    assert.deepEqual(hugePagesIn(''), { totalBytes: 0, freeBytes: 0 })
  })
})
