// Every declared procedure and event at work: against libvirt's test driver and against QEMU without a guest OS.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { events, procedures } from '../node-libvirt/protocol/declarations.ts'
import { Bench } from './libvirt-procedures/bench.ts'
import { backupTests, blockJobTests, snapshotTests } from './libvirt-procedures/blocks.ts'
import { connectionTests } from './libvirt-procedures/connection.ts'
import { Coverage } from './libvirt-procedures/coverage.ts'
import { definitionTests, stoppingTests } from './libvirt-procedures/domain.ts'
import { notExercised, notSeen } from './libvirt-procedures/exceptions.ts'
import { hostTests } from './libvirt-procedures/host.ts'
import { filterTests, networkEndTests, networkTests } from './libvirt-procedures/network.ts'
import { runningTests } from './libvirt-procedures/running.ts'
import { secretTests } from './libvirt-procedures/secret.ts'
import { poolEndTests, poolTests, volumeTests } from './libvirt-procedures/storage.ts'
import { testDriverTests, testHostUri } from './libvirt-procedures/test-driver.ts'
import { cannotRun, makeDirectory, removeEverything } from './libvirt-procedures/workshop.ts'

const skip = await cannotRun()
const coverage = new Coverage()

describe('procedures on QEMU', { skip }, () => {
  const bench = Bench.around(async () => 'qemu:///system', coverage)
  before(makeDirectory)
  before(() => bench().listenToAll())
  after(removeEverything)
  describe('connection', () => connectionTests(bench, coverage))
  describe('host', () => hostTests(bench))
  describe('storage pools', () => poolTests(bench))
  describe('storage volumes', () => volumeTests(bench))
  describe('secrets', () => secretTests(bench))
  describe('networks', () => networkTests(bench))
  describe('network filters', () => filterTests(bench))
  describe('definition of a domain', () => definitionTests(bench))
  describe('a running domain', () => runningTests(bench))
  describe('block jobs', () => blockJobTests(bench))
  describe('backups and checkpoints', () => backupTests(bench))
  describe('snapshots', () => snapshotTests(bench))
  describe('the end of a domain', () => stoppingTests(bench))
  describe('the end of networks', () => networkEndTests(bench))
  describe('the end of storage', () => poolEndTests(bench))
})

describe('procedures on the test driver', { skip }, () => {
  testDriverTests(Bench.around(testHostUri, coverage))
  after(removeEverything)
})

describe('declared procedures and events', { skip }, () => {
  const declared = [...procedures, ...events]
  const reasons = { ...notExercised, ...notSeen }

  it('are exercised above, or listed with the reason why not', () => {
    const missing = declared.filter(
      ({ name, declaration }) => !coverage.has(declaration) && !Object.hasOwn(reasons, name)
    )
    assert.deepEqual(
      missing.map(({ name, file }) => `${name} (${file})`),
      []
    )
  })

  it('are not listed without need', () => {
    const needless = Object.keys(reasons).filter((name) => {
      const found = declared.find((one) => one.name === name)
      return !found || coverage.has(found.declaration)
    })
    assert.deepEqual(needless, [])
  })
})
