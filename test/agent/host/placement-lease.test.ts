// The address of a VM that is gone stays leased for a while: a new VM must not be given it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { makeBench, succeed } from '../verbs/bench.ts'

const wait = () => ({ signal: AbortSignal.timeout(10_000) })
const first = { name: 'first', uuid: '0b54e6f2-6b53-4a3e-9d1c-000000000001' }
const second = { name: 'second', uuid: '0b54e6f2-6b53-4a3e-9d1c-000000000002' }

describe('addresses of new VMs', () => {
  it('pass over those that DHCP still has leased to a VM that was torn down', async () => {
    await using bench = await makeBench()
    const made = await succeed(bench.host, 'vm.provision', { specification: bench.specification(first) })
    const subject = { vm: first.name, uuid: first.uuid, generation: 2 }
    await succeed(bench.host, 'vm.teardown', { vm: first.name }, { subject })
    const next = await succeed(bench.host, 'vm.provision', { specification: bench.specification(second) })
    assert.notEqual(next.address, made.address)
    const leases = await bench.hypervisor.listLeases('hl-net', wait())
    assert.deepEqual(leases.map(({ address }) => address).toSorted(), [made.address, next.address].toSorted())
  })
})
