// Cores are given out whole, to one VM at a time, whatever happened before.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { describe, it } from 'node:test'
import {
  allocateCores,
  type CoreSupply,
  freeCores,
  isWhole,
  type OwnCores,
  sharedCpus
} from '../../../src/agent/resources/cores.ts'
import { coresOf, cpuListText, parseCpuList } from '../../../src/agent/resources/topology.ts'

/** Four cores of two threads, as Intel numbers them. */
const threaded: CoreSupply = {
  topology: [
    [0, 4],
    [1, 5],
    [2, 6],
    [3, 7]
  ],
  reserved: 1
}

describe('cores of a VM alone', () => {
  it('are whole: both threads of each, and never one of those that are reserved', () => {
    const cores = allocateCores({ name: 'a', cpus: 2 }, threaded, { others: [] })
    assert.deepEqual(cores, [
      [1, 5],
      [2, 6]
    ])
    assert.deepEqual(sharedCpus(threaded, [cores]), [0, 4, 3, 7])
  })

  it('are refused with what is left, when there are not enough', () => {
    const others = [[[1, 5]], [[3, 7]]]
    assert.throws(() => allocateCores({ name: 'web-1', cpus: 2 }, threaded, { others }), {
      code: 'E_CAPACITY',
      message:
        /^VM web-1 needs 2 cores to itself; the host has 1 left of the 3 .* Tear a VM .* use another host\.$/
    })
    assert.throws(
      () => allocateCores({ name: 'a', cpus: 1 }, { topology: [[0]], reserved: 1 }, { others: [] }),
      { code: 'E_CAPACITY' }
    )
  })

  it('stay the same when a VM gets more or fewer', () => {
    const own = [[3, 7]]
    const more = allocateCores({ name: 'a', cpus: 3 }, threaded, { others: [], own })
    assert.deepEqual(more, [
      [3, 7],
      [1, 5],
      [2, 6]
    ])
    assert.deepEqual(allocateCores({ name: 'a', cpus: 1 }, threaded, { others: [], own: more }), own)
  })

  it('are given anew when the host has lost one, or its threads have changed', () => {
    const without = { topology: [[0], [1], [2]], reserved: 1 }
    assert.equal(isWhole(1, [[3, 7]], threaded, []), true)
    assert.equal(isWhole(1, [[3, 7]], without, []), false)
    assert.equal(isWhole(1, [[3]], threaded, []), false, 'half a core')
    assert.equal(
      isWhole(
        2,
        [
          [3, 7],
          [3, 7]
        ],
        threaded,
        []
      ),
      false,
      'one core twice'
    )
    assert.equal(isWhole(1, [[3, 7]], threaded, [[[7]]]), false, 'a thread of it is taken')
    assert.deepEqual(allocateCores({ name: 'a', cpus: 1 }, without, { others: [], own: [[3, 7]] }), [[1]])
  })

  it('are nobody else’s after any history of VMs that come, go, grow and shrink on hosts that change', () => {
    const seed = randomInt(2 ** 31)
    const random = generator(seed)
    for (let run = 0; run < 60; run++) {
      let supply = hostOf(random)
      const vms = new Map<string, OwnCores>()
      for (let step = 0; step < 60; step++) {
        const about = `seed ${seed}, run ${run}, step ${step}`
        const name = `vm-${random(6)}`
        const own = vms.get(name)
        const others = [...vms].filter(([other]) => other !== name).map(([, cores]) => cores)
        const action = random(8)
        if (action === 0) vms.delete(name)
        // A boot with other cores: what a VM holds may be gone, or be split.
        else if (action === 1 && random(4) === 0) supply = hostOf(random)
        else {
          const cpus = 1 + random(5)
          const left = freeCores(supply, others).length
          try {
            const given = allocateCores({ name, cpus }, supply, { others, ...(own && { own }) })
            assert.ok(isWhole(cpus, given, supply, others), about)
            vms.set(name, given)
          } catch (error) {
            assert.equal((error as { code?: string }).code, 'E_CAPACITY', about)
            assert.ok(left < cpus, `${about}: refused ${cpus} with ${left} left`)
          }
        }
        const all = [...vms.values()].flat(2)
        assert.equal(new Set(all).size, all.length, `${about}: a processor is two VMs'`)
        const shared = new Set(sharedCpus(supply, [...vms.values()]))
        assert.ok(!all.some((cpu) => shared.has(cpu)), `${about}: a VM's own processor is shared`)
      }
    }
  })
})

describe('topology', () => {
  it('reads lists as the kernel writes them', () => {
    assert.deepEqual(parseCpuList('0-3,8,10-11\n'), [0, 1, 2, 3, 8, 10, 11])
    assert.deepEqual(parseCpuList(''), [])
    assert.deepEqual(parseCpuList('x,5,-,7-'), [5])
    assert.equal(cpuListText([5, 1, 5]), '1,5')
  })

  it('groups threads to cores, and leaves out those that are offline', () => {
    const siblings = [[0, 4], [1, 5], [2], [0, 4]]
    assert.deepEqual(coresOf([0, 1, 2, 4], siblings), [[0, 4], [1], [2]])
  })
})

function hostOf(random: (below: number) => number): CoreSupply {
  const cores = 1 + random(8)
  const topology = Array.from({ length: cores }, (_, core) => (random(2) ? [core, core + cores] : [core]))
  return { topology, reserved: random(3) }
}

/** A seed that is printed makes a failure repeatable (mulberry32). */
function generator(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}
