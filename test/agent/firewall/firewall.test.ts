// The firewall on a host in memory: in force before a start, true to the VMs that are there, and back after others changed it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { digestOf } from '../../../src/agent/firewall/listing.ts'
import type { NftObject } from '../../../src/agent/firewall/nft-json.ts'
import { portName } from '../../../src/agent/host/names.ts'
import { profileOf } from '../../../src/agent/profiles.ts'
import type { VmNetwork } from '../../../src/protocol/vm.ts'
import { type Bench, carry, makeBench, succeed } from '../verbs/bench.ts'

const wait = () => ({ signal: AbortSignal.timeout(30_000) })
const table = 'hostlet'

async function provision(bench: Bench, changes = {}) {
  return await carry(bench.host, 'vm.provision', { specification: bench.specification(changes) })
}

function hasRulesOf(objects: readonly NftObject[], { uuid }: { uuid: string }): boolean {
  return objects.some(({ chain }) => chain?.name === `out-${portName(uuid)}`)
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  for (const { signal } = wait(); !(await holds()); ) {
    signal.throwIfAborted()
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

describe('the firewall', () => {
  it('has a VM’s rules in force before the VM starts', async () => {
    await using bench = await makeBench()
    const specification = bench.specification()
    let atStart: boolean | undefined
    // Gates are asked in the order of their coming: this one comes after the firewall's.
    bench.hypervisor.addStartGate(async () => {
      atStart = hasRulesOf(await bench.nft.read(table, wait()), specification)
    })
    await succeed(bench.host, 'vm.provision', { specification })
    assert.equal(atStart, true)
  })

  it('keeps a VM off where its rules cannot be applied, says so, and leaves nothing', async () => {
    await using bench = await makeBench()
    bench.nft.fault = 'Operation not permitted'
    const outcome = await provision(bench)
    assert.equal(outcome.outcome, 'failed')
    const { code, message } = (outcome as { error: { code: string; message: string } }).error
    assert.equal(code, 'E_UNAVAILABLE')
    assert.match(message, /VM web-1 is not started.*not in force.*Operation not permitted/)
    assert.match(bench.host.firewall.fault?.message ?? '', /Operation not permitted/)
    assert.deepEqual(await bench.leftovers(), [])
    bench.nft.fault = undefined
    assert.equal((await provision(bench)).outcome, 'done')
    assert.equal(bench.host.firewall.fault, undefined)
  })

  it('takes the rules of a VM away with the VM', async () => {
    await using bench = await makeBench()
    await bench.host.prepare()
    const specification = bench.specification()
    await succeed(bench.host, 'vm.provision', { specification })
    await succeed(bench.host, 'vm.teardown', { vm: 'web-1' })
    await until(async () => !hasRulesOf(await bench.nft.read(table, wait()), specification))
    assert.deepEqual(bench.nft.tables, ['bridge hostlet', 'inet hostlet'])
  })

  it('applies the rules again when somebody flushes them, the hypervisor there or not', async () => {
    await using bench = await makeBench()
    await bench.host.prepare()
    const specification = bench.specification()
    await succeed(bench.host, 'vm.provision', { specification })
    for (const away of [false, true]) {
      if (away) bench.hypervisor.setStatus('away')
      bench.nft.flush()
      await until(async () => hasRulesOf(await bench.nft.read(table, wait()), specification))
      await until(async () => bench.host.firewall.fault === undefined)
    }
  })

  it('applies them again when somebody takes a part of them in the moment of their coming', async () => {
    await using bench = await makeBench()
    await bench.host.prepare()
    await succeed(bench.host, 'vm.provision', { specification: bench.specification() })
    const whole = digestOf(await bench.nft.read(table, wait()))
    const apply = bench.nft.apply.bind(bench.nft)
    let times = 0
    bench.nft.apply = async (...given) => {
      await apply(...given)
      if (times++ === 0) bench.nft.flushSet(`bridge ${table}`, 'from')
    }
    bench.nft.flush()
    await until(async () => times > 0 && digestOf(await bench.nft.read(table, wait())) === whole)
    assert.ok(times > 1)
  })

  it('says that they are not in force while they cannot be applied, and tries again', async () => {
    await using bench = await makeBench()
    await bench.host.prepare()
    await succeed(bench.host, 'vm.provision', { specification: bench.specification() })
    bench.nft.fault = 'no memory'
    bench.nft.flush()
    await until(async () => bench.host.firewall.fault !== undefined)
    bench.nft.fault = undefined
    await until(async () => bench.host.firewall.fault === undefined && bench.nft.tables.length === 2)
  })

  it('is applied by an agent that comes to a host with VMs', async () => {
    await using bench = await makeBench()
    const specification = bench.specification()
    await succeed(bench.host, 'vm.provision', { specification })
    bench.nft.flush()
    await bench.restarted().prepare()
    await until(async () => hasRulesOf(await bench.nft.read(table, wait()), specification))
  })

  it('is taken away when asked, and not applied again', async () => {
    await using bench = await makeBench()
    await succeed(bench.host, 'vm.provision', { specification: bench.specification() })
    await bench.host.firewall.remove(wait())
    assert.deepEqual(bench.nft.tables, [])
    await assert.rejects(bench.host.firewall.refresh(wait()), { code: 'E_UNAVAILABLE' })
  })

  it('counts what it dropped of a VM', async () => {
    await using bench = await makeBench()
    const specification = bench.specification()
    await succeed(bench.host, 'vm.provision', { specification })
    assert.deepEqual(await bench.host.firewall.drops(specification, wait()), { packets: 0, bytes: 0 })
  })
})

describe('a VM’s wishes of the network', () => {
  const refusals: readonly [string, VmNetwork, string, RegExp][] = [
    ['more than the profile', { egress: { mode: 'all' } }, 'E_BAD_REQUEST', /egress all is more than web/],
    [
      'a port that the host does not map',
      { ports: [{ transport: 'tcp', hostPort: 80, vmPort: 80 }] },
      'E_BAD_REQUEST',
      /maps the ports 20000 to 29999/
    ]
  ]
  for (const [title, network, code, pattern] of refusals) {
    it(`are refused where they are ${title}`, async () => {
      await using bench = await makeBench()
      const outcome = await provision(bench, { network })
      assert.equal(outcome.outcome, 'failed')
      const { error } = outcome as { error: { code: string; message: string } }
      assert.equal(error.code, code)
      assert.match(error.message, pattern)
      assert.deepEqual(await bench.leftovers(), [])
    })
  }

  it('get a port of the host once, also when two ask at the same time', async () => {
    await using bench = await makeBench()
    const network: VmNetwork = { ports: [{ transport: 'tcp', hostPort: 20_480, vmPort: 80 }] }
    const outcomes = await Promise.all(
      [1, 2, 3].map((each) =>
        provision(bench, {
          name: `web-${each}`,
          uuid: `0b54e6f2-6b53-4a3e-9d1c-00000000000${each}`,
          network
        })
      )
    )
    const failed = outcomes.filter(({ outcome }) => outcome === 'failed')
    assert.equal(failed.length, 2)
    for (const each of failed) assert.equal((each as { error: { code: string } }).error.code, 'E_CONFLICT')
    assert.equal((await bench.hypervisor.listVms(wait())).length, 1)
  })
})

describe('a specification from elsewhere', () => {
  it('keeps what the host can give, and loses the rest', async () => {
    await using bench = await makeBench()
    const tcp = (hostPort: number) => ({ transport: 'tcp' as const, hostPort, vmPort: 80 })
    await succeed(bench.host, 'vm.provision', {
      specification: bench.specification({ network: { ports: [tcp(20_700)] } })
    })
    const copy = bench.specification({
      ...{ name: 'copy', uuid: '0b54e6f2-6b53-4a3e-9d1c-000000000009' },
      network: { egress: { mode: 'all' }, dns: false, ports: [tcp(20_700), tcp(20_701), tcp(80)] }
    })
    const { network } = await bench.host.firewall.fitted(copy, await bench.hypervisor.listVms(wait()))
    assert.deepEqual(network, { dns: false, ports: [tcp(20_701)] })
  })
})

describe('a network to itself', () => {
  const starter = profileOf({ network: 'hl-net', bridge: 'hlnet', subnet: '10.90.0.0/24', encryption: false })
  const premium = profileOf({
    ...starter,
    network: 'hl-own',
    bridge: 'hlo-',
    subnet: '10.91.0.0/28',
    ownBridge: true
  })
  const open = () => makeBench({ config: { profiles: { starter, premium } } })
  const named = (number: number) => ({
    name: `own-${number}`,
    uuid: `0b54e6f2-6b53-4a3e-9d1c-00000000000${number}`,
    profile: 'premium'
  })

  it('is made for each VM out of the profile’s subnet, and goes with it', async () => {
    await using bench = await open()
    for (const number of [1, 2]) assert.equal((await provision(bench, named(number))).outcome, 'done')
    const placements = (await bench.hypervisor.listVms(wait())).map(({ placement }) => placement)
    assert.deepEqual(placements.map(({ ownNetwork }) => ownNetwork?.subnet).sort(), [
      '10.91.0.0/29',
      '10.91.0.8/29'
    ])
    assert.deepEqual(placements.map(({ address }) => address).sort(), ['10.91.0.10', '10.91.0.2'])
    assert.equal(new Set(placements.map(({ network }) => network)).size, 2)
    const [first] = placements
    assert.match(first?.network ?? '', /^hl-own-[0-9a-f]{8}$/)
    assert.match(first?.ownNetwork?.bridge ?? '', /^hlo-[0-9a-f]{8}$/)
    const full = await provision(bench, named(3))
    assert.equal((full as { error?: { code: string } }).error?.code, 'E_CAPACITY')
    for (const number of [1, 2]) {
      const { name: vm, uuid } = named(number)
      await succeed(bench.host, 'vm.teardown', { vm }, { subject: { vm, uuid, generation: 1_000 } })
    }
    assert.deepEqual(await bench.leftovers(), [])
    assert.equal((await provision(bench, named(3))).outcome, 'done')
  })

  it('is undone with a provision that fails', async () => {
    await using bench = await open()
    bench.hypervisor.guests.takesLease = false
    const outcome = await provision(bench, { ...named(1), ready: { timeoutMs: 50 } })
    assert.equal(outcome.outcome, 'failed')
    assert.deepEqual(await bench.leftovers(), [])
  })
})
