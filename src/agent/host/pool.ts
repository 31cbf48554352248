// The pool of the disks itself: made where it is missing, started where it is stopped.

import {
  type Connection,
  errorCode,
  poolState,
  type StoragePool,
  storagePoolBuild,
  storagePoolCreate,
  storagePoolDefineXml,
  storagePoolGetInfo,
  storagePoolGetXmlDesc,
  storagePoolLookupByName,
  storageXmlFlag
} from 'node-libvirt'
import type { Wait } from './hypervisor.ts'
import { attempt, isAnswer, orAbsent } from './libvirt-errors.ts'
import { type PoolDefinition, poolXml, requireSamePool } from './volume-xml.ts'

const createMs = 120_000
const quickMs = 10_000

export async function ensurePool(
  connection: Connection,
  definition: PoolDefinition,
  wait: Wait
): Promise<StoragePool> {
  return await attempt(`prepare pool ${definition.name}`, async () => {
    const { name } = definition
    const options = { ...wait, deadlineMs: createMs }
    const found = await connection.call(storagePoolLookupByName, { name }, options).catch((error) => {
      if (isAnswer(error, errorCode.noStoragePool)) return undefined
      throw error
    })
    const { pool } =
      found ?? (await connection.call(storagePoolDefineXml, { xml: poolXml(definition), flags: 0 }, options))
    const flags = storageXmlFlag.inactive
    const { xml } = await connection.call(storagePoolGetXmlDesc, { pool, flags }, options)
    requireSamePool(xml, definition)
    const { state } = await connection.call(storagePoolGetInfo, { pool }, options)
    if (state === poolState.inactive) {
      // Makes the directory where it is missing and sets its mode; what is in it stays.
      await connection.call(storagePoolBuild, { pool, flags: 0 }, options)
      await connection.call(storagePoolCreate, { pool, flags: 0 }, options)
    }
    return pool
  })
}

/** False for one that is stopped, or not defined any more. */
export async function isActive(
  connection: Connection,
  pool: StoragePool,
  { signal }: Wait
): Promise<boolean> {
  const info = await orAbsent(errorCode.noStoragePool, `look at pool ${pool.name}`, () =>
    connection.call(storagePoolGetInfo, { pool }, { signal, deadlineMs: quickMs })
  )
  return info !== undefined && info.state !== poolState.inactive
}
