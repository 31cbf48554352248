// The tables of procedures and events: nothing twice, every event reachable, priorities where they must hold.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { connectEventConnectionClosed } from '../../../src/node-libvirt/protocol/connect.ts'
import {
  domainEvents,
  networkEvents,
  nodeDeviceEvents,
  secretEvents,
  storagePoolEvents
} from '../../../src/node-libvirt/protocol/events.ts'
import type { LibvirtEvent } from '../../../src/node-libvirt/protocol/procedure.ts'
import { events, procedures } from './declarations.ts'

type EventTable = Readonly<Record<string, { readonly id: number; readonly message: LibvirtEvent }>>
const tables: readonly EventTable[] = [
  domainEvents,
  networkEvents,
  storagePoolEvents,
  nodeDeviceEvents,
  secretEvents
]
const entries = tables.flatMap((table) => Object.values(table))

function repeated(values: readonly unknown[]): unknown[] {
  return values.filter((value, index) => values.indexOf(value) !== index)
}

describe('declarations of the protocol', () => {
  it('finds them', () => {
    assert.ok(procedures.length > 250, `found ${procedures.length} procedures`)
    assert.ok(events.length > 30, `found ${events.length} events`)
  })

  it('uses no number twice in a program, for procedures and events together', () => {
    const numbers = [...procedures, ...events].map(
      ({ declaration }) => `${declaration.program} ${declaration.number}`
    )
    assert.deepEqual(repeated(numbers), [])
  })

  it('uses no name twice', () => {
    assert.deepEqual(repeated([...procedures, ...events].map(({ name }) => name)), [])
  })

  it('stays within the numbers that the programs have', () => {
    const last = { remote: 453, qemu: 7 }
    const outside = [...procedures, ...events].filter(
      ({ declaration: { program, number } }) => number < 1 || number > last[program]
    )
    assert.deepEqual(
      outside.map(({ name }) => name),
      []
    )
  })

  it('marks what came after libvirt 9.0.0, which ends at 443', () => {
    const newer = procedures.filter(({ declaration }) => declaration.newerThan9)
    assert.deepEqual(
      newer.map(({ name }) => name),
      procedures
        .filter(({ declaration }) => declaration.program === 'remote' && declaration.number > 443)
        .map(({ name }) => name)
    )
  })

  it('gives every event of an object one id, and every id of a kind one event', () => {
    for (const table of tables) assert.deepEqual(repeated(Object.values(table).map(({ id }) => id)), [])
    assert.deepEqual(repeated(entries.map(({ message }) => message.number)), [])
    const reachable = new Set<LibvirtEvent>([
      ...entries.map(({ message }) => message),
      connectEventConnectionClosed
    ])
    const lost = events.filter(({ declaration }) => !reachable.has(declaration))
    assert.deepEqual(
      lost.map(({ name }) => name),
      []
    )
  })

  it('maps event ids to the numbers of their messages', () => {
    const numbers = (table: EventTable) => Object.values(table).map(({ id, message }) => [id, message.number])
    assert.deepEqual(numbers(domainEvents), [
      [0, 318],
      [1, 319],
      [2, 320],
      [3, 321],
      [4, 322],
      [6, 324],
      [7, 325],
      [8, 326],
      [9, 327],
      [10, 328],
      [11, 329],
      [12, 330],
      [13, 331],
      [14, 332],
      [15, 333],
      [16, 339],
      [17, 346],
      [18, 348],
      [19, 354],
      [21, 363],
      [22, 367],
      [23, 379],
      [24, 385],
      [25, 423],
      [26, 438],
      [27, 453]
    ])
    assert.deepEqual(numbers(networkEvents), [
      [0, 315],
      [1, 446]
    ])
    assert.deepEqual(numbers(storagePoolEvents), [
      [0, 370],
      [1, 373]
    ])
    assert.deepEqual(numbers(nodeDeviceEvents), [
      [0, 376],
      [1, 377]
    ])
    assert.deepEqual(numbers(secretEvents), [
      [0, 382],
      [1, 383]
    ])
  })

  it('keeps what ends or inspects a stuck domain off the ordinary workers', () => {
    const needed = ['domainDestroyFlags', 'domainGetState', 'domainGetControlInfo', 'connectListAllDomains']
    for (const name of needed) {
      const found = procedures.find((procedure) => procedure.name === name)
      assert.equal(found?.declaration.priority, 'high', name)
    }
  })

  it('declares nothing that looks into a guest', () => {
    const forbidden = /screenshot|sendkey|memorypeek|blockpeek|coredump|secretgetvalue|monitorcommand/i
    assert.deepEqual(
      procedures.filter(({ name }) => forbidden.test(name)).map(({ name }) => name),
      []
    )
  })
})
