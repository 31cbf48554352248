// The health of a VM's services as the scheduler shows it: its host's word, as long as there is somebody to give it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { VmRecord } from '../../src/scheduler/store/store.ts'
import { vmView } from '../../src/scheduler/views/vm-view.ts'
import { uuid1, vmSummary } from './support/samples.ts'

const health = [{ name: 'db', state: 'healthy', since: 500 }] as const

describe('health in the view of a VM', () => {
  it('is what its host said of a VM that runs', () => {
    assert.deepEqual(vmView(record()).health, health)
    assert.equal('health' in vmView(record({ health: undefined })), false)
  })

  it('is unknown, since it was last told, when the VM is off, gone, or its host is away', () => {
    const unknown = [{ name: 'db', state: 'unknown', since: 9_000 }]
    assert.deepEqual(vmView(record({ state: 'stopped' })).health, unknown)
    assert.deepEqual(vmView(record({}, { present: false })).health, unknown)
    assert.deepEqual(vmView({ ...record(), hostConnected: false }).health, unknown)
  })
})

function record(change: Record<string, unknown> = {}, report: { present?: boolean } = {}): VmRecord {
  const { name, uuid, profile, cpus, memoryBytes } = vmSummary()
  return {
    name,
    uuid,
    profile,
    cpus,
    memoryBytes,
    host: 'kvm-1',
    wanted: 'running',
    generation: 1,
    createdAt: 1,
    specification: undefined,
    operation: undefined,
    hostConnected: true,
    hostRevoked: false,
    report: {
      ...vmSummary({ uuid: uuid1 }),
      health: [...health],
      reportedAt: 9_000,
      present: true,
      ...change,
      ...report
    } as VmRecord['report']
  }
}
