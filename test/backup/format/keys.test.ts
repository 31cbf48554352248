// Keys that are derived from a VM key: fixed for all time, and different for every purpose.

import assert from 'node:assert/strict'
import { createHmac, hkdfSync } from 'node:crypto'
import { test } from 'node:test'
import { deriveVaultKeys } from '../../../src/backup/format/keys.ts'

const vmKey = Buffer.from(Array.from({ length: 32 }, (_, index) => index))
const keys = deriveVaultKeys(vmKey)

test('derives each key as the format says', () => {
  const derived = (info: string, salt: Uint8Array, length = 32) =>
    Buffer.from(hkdfSync('sha256', vmKey, salt, info, length))
  const none = new Uint8Array()
  const salt = Buffer.alloc(16, 9)
  assert.equal(keys.id, derived('hostlet-backup/1 key id', none, 16).toString('hex'))
  assert.deepEqual(keys.packKey(salt), derived('hostlet-backup/1 pack', salt))
  assert.deepEqual(keys.tableKey(salt), derived('hostlet-backup/1 table', salt))
  assert.deepEqual(keys.manifestKey('s-1'), derived('hostlet-backup/1 manifest', Buffer.from('s-1')))
  const block = Buffer.alloc(65_536, 'block')
  const mac = (info: string) => createHmac('sha256', derived(info, none)).update(block).digest()
  assert.deepEqual(keys.addressOf(block), mac('hostlet-backup/1 address'))
  assert.deepEqual(keys.nodeAddressOf(block), mac('hostlet-backup/1 node address'))
})

test('gives the same keys and addresses for the same VM key in every release', () => {
  assert.equal(keys.id, 'fe9bac9e473f6c9036c3f0f9e7e49a70')
  assert.equal(
    keys.addressOf(Buffer.alloc(65_536)).toString('hex'),
    'd439a13cf963b480ac92b6dc56c8042c03c617d80c13ee59dd5699c7cbd330d6'
  )
})

test('shares nothing between VMs, purposes and salts', () => {
  const other = deriveVaultKeys(Buffer.alloc(32, 1))
  const block = Buffer.alloc(65_536, 1)
  const salt = Buffer.alloc(16, 1)
  const values = [keys, other].flatMap((one) => [
    one.id,
    one.addressOf(block).toString('hex'),
    one.nodeAddressOf(block).toString('hex'),
    one.packKey(salt).toString('hex'),
    one.packKey(Buffer.alloc(16, 2)).toString('hex'),
    one.tableKey(salt).toString('hex'),
    one.manifestKey('a').toString('hex'),
    one.manifestKey('b').toString('hex')
  ])
  assert.equal(new Set(values).size, values.length)
})

test('refuses a VM key of another length', () => {
  for (const length of [0, 31, 33, 64])
    assert.throws(() => deriveVaultKeys(Buffer.alloc(length)), { code: 'E_BAD_REQUEST' })
})
