// Procedures of storage pools and volumes, on a directory pool of our own.

import assert from 'node:assert/strict'
import { access, readFile } from 'node:fs/promises'
import { buffer } from 'node:stream/consumers'
import { it } from 'node:test'
import { errorCode } from '../../../src/node-libvirt/protocol/constants/errors.ts'
import {
  poolEventType,
  poolListFlag,
  poolState,
  volumeInfoFlag,
  volumeResizeFlag,
  volumeType,
  volumeWipeAlgorithm
} from '../../../src/node-libvirt/protocol/constants/storage.ts'
import { storagePoolEvents } from '../../../src/node-libvirt/protocol/events.ts'
import type { StoragePool, StorageVolume } from '../../../src/node-libvirt/protocol/objects.ts'
import * as storage from '../../../src/node-libvirt/protocol/storage.ts'
import type { Bench } from './bench.ts'
import { assertIncludes, directory, mebibyte, ourName, transientPool, virsh } from './workshop.ts'

const poolXml = `<pool type='dir'><name>${ourName}</name><target><path>${directory}</path></target></pool>`

export function volumeXml(name: string, format: string, capacityBytes: number, extra = ''): string {
  return `<volume><name>${name}</name><capacity>${capacityBytes}</capacity>
    <target><format type='${format}'/>${format === 'qcow2' ? '<compat>1.1</compat>' : ''}</target>${extra}</volume>`
}

/** Leaves the pool running for the tests that follow. */
export function poolTests(bench: () => Bench): void {
  let pool: StoragePool

  it('defines a pool and finds it again', async () => {
    const { exercise, recorder } = bench()
    ;({ pool } = await exercise.ok(storage.storagePoolDefineXml, { xml: poolXml, flags: 0 }))
    assert.deepEqual((await exercise.ok(storage.storagePoolLookupByName, { name: ourName })).pool, pool)
    assert.deepEqual((await exercise.ok(storage.storagePoolLookupByUuid, { uuid: pool.uuid })).pool, pool)
    await recorder.seen(
      storagePoolEvents.lifecycle,
      (event) => event.pool.name === ourName && event.event === poolEventType.defined
    )
  })

  it('builds and starts it', async () => {
    const { exercise } = bench()
    assert.deepEqual(await exercise.ok(storage.storagePoolIsActive, { pool }), { active: false })
    await exercise.ok(storage.storagePoolBuild, { pool, flags: 0 })
    await exercise.ok(storage.storagePoolCreate, { pool, flags: 0 })
    assert.deepEqual(await exercise.ok(storage.storagePoolIsActive, { pool }), { active: true })
    assert.deepEqual(await exercise.ok(storage.storagePoolIsPersistent, { pool }), { persistent: true })
    await exercise.refused(storage.storagePoolCreate, { pool, flags: 0 }, errorCode.operationInvalid)
  })

  it('turns its autostart on and off', async () => {
    const { exercise } = bench()
    for (const autostart of [true, false]) {
      await exercise.ok(storage.storagePoolSetAutostart, { pool, autostart })
      assert.deepEqual(await exercise.ok(storage.storagePoolGetAutostart, { pool }), { autostart })
    }
  })

  it('tells what it is', async () => {
    const { exercise } = bench()
    const info = await exercise.ok(storage.storagePoolGetInfo, { pool })
    assert.equal(info.state, poolState.running)
    const listed = await virsh('pool-info', ourName, '--bytes')
    assert.equal(BigInt(/Capacity:\s+(\d+)/.exec(listed)?.[1] ?? -1), info.capacityBytes)
    const { xml } = await exercise.ok(storage.storagePoolGetXmlDesc, { pool, flags: 0 })
    assertIncludes(xml, `<path>${directory}</path>`)
    const { pool: found } = await exercise.ok(storage.storagePoolLookupByTargetPath, { path: directory })
    assert.deepEqual(found, pool)
  })

  it('lists it among the others', async () => {
    const { exercise } = bench()
    const active = { needResults: true, flags: poolListFlag.active | poolListFlag.directory }
    const { pools, count } = await exercise.ok(storage.connectListAllStoragePools, active)
    assert.equal(pools.length, count)
    assert.ok(pools.some(({ name }) => name === ourName))
    const inactive = { needResults: true, flags: poolListFlag.inactive }
    const others = await exercise.ok(storage.connectListAllStoragePools, inactive)
    assert.ok(!others.pools.some(({ name }) => name === ourName))
    assert.ok((await exercise.ok(storage.connectNumOfStoragePools, {})).count >= 1)
    assert.ok((await exercise.ok(storage.connectNumOfDefinedStoragePools, {})).count >= 0)
  })

  it('names the kinds of pool that it can have', async () => {
    const { exercise } = bench()
    const { capabilities } = await exercise.ok(storage.connectGetStoragePoolCapabilities, { flags: 0 })
    assertIncludes(capabilities, "<pool type='dir' supported='yes'>")
    const search = { type: 'dir', sourceXml: null, flags: 0 }
    await exercise.refused(storage.connectFindStoragePoolSources, search, errorCode.noSupport)
  })

  it('makes a transient pool and removes what it lives in', async () => {
    const { exercise } = bench()
    const name = transientPool
    const xml = `<pool type='dir'><name>${name}</name><target><path>${directory}/inner</path></target></pool>`
    const { pool: transient } = await exercise.ok(storage.storagePoolCreateXml, { xml, flags: 1 })
    assert.deepEqual(await exercise.ok(storage.storagePoolIsPersistent, { pool: transient }), {
      persistent: false
    })
    await exercise.ok(storage.storagePoolDestroy, { pool: transient })
    await exercise.refused(storage.storagePoolLookupByName, { name }, errorCode.noStoragePool)
  })
}

export function volumeTests(bench: () => Bench): void {
  let pool: StoragePool
  let volume: StorageVolume
  const key = `${directory}/disk.raw`

  it('makes a volume and finds it again', async () => {
    const { exercise } = bench()
    ;({ pool } = await exercise.ok(storage.storagePoolLookupByName, { name: ourName }))
    const xml = volumeXml('disk.raw', 'raw', mebibyte)
    ;({ volume } = await exercise.ok(storage.storageVolCreateXml, { pool, xml, flags: 0 }))
    assert.deepEqual(volume, { pool: ourName, name: 'disk.raw', key })
    const found = [
      await exercise.ok(storage.storageVolLookupByName, { pool, name: 'disk.raw' }),
      await exercise.ok(storage.storageVolLookupByKey, { key }),
      await exercise.ok(storage.storageVolLookupByPath, { path: key })
    ]
    for (const one of found) assert.deepEqual(one.volume, volume)
    assert.deepEqual((await exercise.ok(storage.storagePoolLookupByVolume, { volume })).pool, pool)
    await exercise.refused(
      storage.storageVolCreateXml,
      { pool, xml, flags: 0 },
      errorCode.storageVolumeExists
    )
  })

  it('tells what it is', async () => {
    const { exercise } = bench()
    const info = await exercise.ok(storage.storageVolGetInfo, { volume })
    assert.deepEqual([info.type, info.capacityBytes], [volumeType.file, BigInt(mebibyte)])
    const flags = volumeInfoFlag.physical
    const physical = await exercise.ok(storage.storageVolGetInfoFlags, { volume, flags })
    assert.equal(physical.allocationBytes, BigInt(mebibyte))
    assert.deepEqual(await exercise.ok(storage.storageVolGetPath, { volume }), { path: key })
    assertIncludes(
      (await exercise.ok(storage.storageVolGetXmlDesc, { volume, flags: 0 })).xml,
      `<path>${key}</path>`
    )
  })

  it('lists it', async () => {
    const { exercise } = bench()
    const all = await exercise.ok(storage.storagePoolListAllVolumes, { pool, needResults: true, flags: 0 })
    assert.deepEqual(all, { volumes: [volume], count: 1 })
    assert.deepEqual(await exercise.ok(storage.storagePoolNumOfVolumes, { pool }), { count: 1 })
    assert.deepEqual(await exercise.ok(storage.storagePoolListVolumes, { pool, namesMax: 8 }), {
      names: ['disk.raw']
    })
  })

  it('uploads and downloads its bytes', async () => {
    const { exercise, connection } = bench()
    const content = Buffer.from(Array.from({ length: mebibyte }, (_, index) => index % 251))
    const transfer = { volume, offsetBytes: 0, lengthBytes: mebibyte, flags: 0 }
    await connection.upload(storage.storageVolUpload, transfer, [content])
    exercise.streamed(storage.storageVolUpload)
    assert.deepEqual(await readFile(key), content)
    const part = { volume, offsetBytes: 1000, lengthBytes: 500_000, flags: 0 }
    const download = await connection.download(storage.storageVolDownload, part)
    assert.deepEqual(await buffer(download), content.subarray(1000, 501_000))
    exercise.streamed(storage.storageVolDownload)
  })

  it('wipes it', async () => {
    const { exercise } = bench()
    await exercise.ok(storage.storageVolWipe, { volume, flags: 0 })
    assert.ok((await readFile(key)).every((byte) => byte === 0))
    const zero = { volume, algorithm: volumeWipeAlgorithm.zero, flags: 0 }
    await exercise.ok(storage.storageVolWipePattern, zero)
  })

  it('resizes it, and refuses to shrink it unasked', async () => {
    const { exercise } = bench()
    const capacityBytes = 2 * mebibyte
    await exercise.ok(storage.storageVolResize, { volume, capacityBytes, flags: 0 })
    assert.equal(
      (await exercise.ok(storage.storageVolGetInfo, { volume })).capacityBytes,
      BigInt(capacityBytes)
    )
    const smaller = { volume, capacityBytes: mebibyte, flags: 0 }
    await exercise.refused(storage.storageVolResize, smaller, errorCode.invalidArgument)
    await exercise.ok(storage.storageVolResize, { ...smaller, flags: volumeResizeFlag.shrink })
  })

  it('copies it into another format', async () => {
    const { exercise } = bench()
    const xml = volumeXml('copy.qcow2', 'qcow2', mebibyte)
    const made = await exercise.ok(storage.storageVolCreateXmlFrom, { pool, xml, source: volume, flags: 0 })
    assertIncludes(
      (await exercise.ok(storage.storageVolGetXmlDesc, { volume: made.volume, flags: 0 })).xml,
      "<format type='qcow2'/>"
    )
    await exercise.ok(storage.storageVolDelete, { volume: made.volume, flags: 0 })
  })

  it('reads the pool anew and deletes the volume', async () => {
    const { exercise, recorder } = bench()
    await exercise.ok(storage.storagePoolRefresh, { pool, flags: 0 })
    await recorder.seen(storagePoolEvents.refresh, (event) => event.pool.name === ourName)
    await exercise.ok(storage.storageVolDelete, { volume, flags: 0 })
    await exercise.refused(storage.storageVolLookupByKey, { key }, errorCode.noStorageVolume)
  })
}

/** Comes last: the domain's disks lie in the pool. */
export function poolEndTests(bench: () => Bench): void {
  it('stops the pool, removes its directory and its definition', async () => {
    const { exercise } = bench()
    const { pool } = await exercise.ok(storage.storagePoolLookupByName, { name: ourName })
    await exercise.ok(storage.storagePoolRefresh, { pool, flags: 0 })
    const { volumes } = await exercise.ok(storage.storagePoolListAllVolumes, {
      pool,
      needResults: true,
      flags: 0
    })
    for (const volume of volumes) await exercise.ok(storage.storageVolDelete, { volume, flags: 0 })
    await exercise.ok(storage.storagePoolDestroy, { pool })
    await exercise.ok(storage.storagePoolDelete, { pool, flags: 0 })
    await assert.rejects(access(directory), { code: 'ENOENT' })
    await exercise.ok(storage.storagePoolUndefine, { pool })
    await exercise.refused(storage.storagePoolLookupByUuid, { uuid: pool.uuid }, errorCode.noStoragePool)
  })
}
