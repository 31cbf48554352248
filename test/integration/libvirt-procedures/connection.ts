// Procedures that open, close and subscribe, called by hand on connections of their own.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { connect } from '../../../src/node-libvirt/connection.ts'
import { ConnectionError } from '../../../src/node-libvirt/errors.ts'
import {
  authList,
  connectClose,
  connectGetVersion,
  connectOpen
} from '../../../src/node-libvirt/protocol/connect.ts'
import { metadataType } from '../../../src/node-libvirt/protocol/constants/domain.ts'
import { errorCode } from '../../../src/node-libvirt/protocol/constants/errors.ts'
import { authType } from '../../../src/node-libvirt/protocol/constants/host.ts'
import * as events from '../../../src/node-libvirt/protocol/events.ts'
import { networkGetMetadata, networkSetMetadata } from '../../../src/node-libvirt/protocol/network.ts'
import type { Bench } from './bench.ts'
import { type Coverage, Exercise } from './coverage.ts'

const all = { eventId: 0 }

export function connectionTests(bench: () => Bench, coverage: Coverage): void {
  it('asks an open connection for no authentication, and refuses to open it again', async () => {
    await using connection = await connect('test:///default')
    const exercise = new Exercise(connection, coverage)
    assert.deepEqual(await exercise.ok(authList, {}), { types: [authType.none] })
    await exercise.refused(connectOpen, { name: 'test:///default', flags: 0 }, errorCode.internalError)
    await exercise.refused(connectGetVersion, {}, errorCode.internalError)
  })

  it('answers a close and hangs up', async () => {
    await using connection = await connect('test:///default')
    await new Exercise(connection, coverage).ok(connectClose, {})
    const reason = await connection.closed
    assert.ok(reason instanceof ConnectionError)
    assert.equal(reason.code, 'E_INTERRUPTED')
  })

  it('registers and deregisters callbacks of every kind', async () => {
    await using connection = await connect('qemu:///system')
    const exercise = new Exercise(connection, coverage)
    const domain = await exercise.ok(events.connectDomainEventCallbackRegisterAny, { ...all, domain: null })
    const again = { ...all, domain: null }
    await exercise.refused(events.connectDomainEventCallbackRegisterAny, again, errorCode.invalidArgument)
    await exercise.ok(events.connectDomainEventCallbackDeregisterAny, domain)
    const network = await exercise.ok(events.connectNetworkEventRegisterAny, { ...all, network: null })
    await exercise.ok(events.connectNetworkEventDeregisterAny, network)
    const pool = await exercise.ok(events.connectStoragePoolEventRegisterAny, { ...all, pool: null })
    await exercise.ok(events.connectStoragePoolEventDeregisterAny, pool)
    const device = await exercise.ok(events.connectNodeDeviceEventRegisterAny, { ...all, device: null })
    await exercise.ok(events.connectNodeDeviceEventDeregisterAny, device)
    const secret = await exercise.ok(events.connectSecretEventRegisterAny, { ...all, secret: null })
    await exercise.ok(events.connectSecretEventDeregisterAny, secret)
    await exercise.refused(events.connectSecretEventDeregisterAny, secret, errorCode.internalError)
  })

  it('reports what is newer than its libvirt as unsupported', async (context) => {
    const { connection } = bench()
    const [major = 0, minor = 0] = connection.facts.libvirtVersion.split('.').map(Number)
    if (major > 9 || (major === 9 && minor >= 7)) return context.skip('libvirt has metadata of networks')
    const metadata = {
      network: { name: 'x', uuid: Buffer.alloc(16) },
      type: metadataType.title,
      uri: null,
      flags: 0
    }
    const unsupported = { name: 'ConnectionError', code: 'E_UNSUPPORTED' }
    await assert.rejects(connection.call(networkGetMetadata, metadata), unsupported)
    const change = { ...metadata, metadata: 'x', key: null }
    await assert.rejects(connection.call(networkSetMetadata, change), unsupported)
  })
}
