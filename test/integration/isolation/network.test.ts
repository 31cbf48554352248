// Network isolation from the attacker's side: what guests of several customers try on each other, on the host and on others.

import { after, before, describe, it } from 'node:test'
import { allowedPaths, type Customers } from './allowed-paths.ts'
import { attackGroups } from './attacks.ts'
import { Battle } from './battle.ts'
import { mappedPorts, mappingsOf } from './mapped-ports.ts'
import { names } from './names.ts'
import { upheaval } from './upheaval.ts'
import { cannotAttack, World } from './world.ts'

const limit = { receiveBytesPerSecondMax: 65_536, transmitBytesPerSecondMax: 65_536 }
const timeout = 840_000

describe('a guest among those of customers whom it does not trust', {
  skip: await cannotAttack(),
  timeout
}, () => {
  let world: World
  let customers: Customers
  const cast = () => customers

  before(async () => {
    world = await World.open()
    const [mallory, neighbour, stranger, listed] = await Promise.all([
      world.addGuest('mallory', 'shared'),
      world.addGuest('alice', 'shared', { network: { egress: { mode: 'web' }, ports: mappingsOf(world) } }),
      world.addGuest('bob', 'sealed'),
      world.addGuest('carol', 'listed', { network: limit })
    ])
    await Promise.all([neighbour.listen(), stranger.listen(), world.captureBridge(mallory.bridge)])
    customers = { world, mallory, neighbour, stranger, listed, hostAddress: world.outside.hostAddress }
  })
  after(async () => {
    await world?.[Symbol.asyncDispose]()
  })

  describe('tries what is forbidden, and', () => {
    for (const [name, attacks] of Object.entries(attackGroups))
      it(name, async () => Battle.assertNone(await new Battle(cast()).breaches(attacks(cast()))))
  })
  describe('does what its profile and its command allow, and', () => allowedPaths(cast))
  describe('has mapped ports, and', () => mappedPorts(cast))
  describe('asks around, and', () => names(cast))
  describe('lives through upheavals, and', () => upheaval(cast))
})
