// Plans on real libvirt: asking changes nothing there, and the definition that a plan tells is the one that is then made.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import type { Host } from '../../src/agent/host/host.ts'
import { readXml, type XmlNode } from '../../src/agent/host/xml-read.ts'
import { planned } from '../agent/plans/planned.ts'
import { succeed } from '../agent/verbs/bench.ts'
import { type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import { cannotProvision, guestSpecification, hostOf, setupOf } from './provision-host.ts'

const run = promisify(execFile)
const mebibyte = 1024 ** 2
const wait = () => ({ signal: AbortSignal.timeout(60_000) })

describe('plans on libvirt', { skip: await cannotProvision(), timeout: 120_000 }, () => {
  let fixture: LibvirtFixture
  let host: Host
  const uuid = randomUUID()

  before(async () => {
    fixture = await openLibvirtFixture()
    host = await hostOf(fixture.hypervisor, setupOf(fixture))
    // What an agent has made of its own accord by the time that somebody asks.
    await host.hypervisor.listVolumes(wait())
    await host.firewall.refresh(wait())
  })

  after(async () => {
    await host?.firewall.remove(wait())
    await host?.close()
    await fixture?.dispose()
  })

  const specificationOf = () =>
    guestSpecification({
      name: `${fixture.prefix}-a`,
      uuid,
      dataDiskBytes: 16 * mebibyte,
      seed: { hostname: 'web-1' },
      network: { egress: { mode: 'none' }, ports: [{ transport: 'tcp', hostPort: 29_071, vmPort: 80 }] }
    })

  /** Everything of ours that libvirt and the kernel tell. */
  async function stateOf(): Promise<string> {
    const { pool, network, prefix } = { ...fixture, network: fixture.network.name }
    const texts = await Promise.all([
      fixture.virsh('list', '--all', '--name').then(ours(prefix)),
      fixture.virsh('net-list', '--all', '--name').then(ours(prefix)),
      fixture.virsh('vol-list', '--details', pool.name).catch(() => 'no pool'),
      fixture.virsh('net-dumpxml', network).catch(() => 'no network'),
      fixture.virsh('dumpxml', `${prefix}-a`, '--inactive').catch(() => 'no domain'),
      run('nft', ['list', 'tables']).then(({ stdout }) => ours(network)(stdout))
    ])
    return texts.join('\n')
  }

  it('change nothing, and tell before a VM is made the definition that it then has', async () => {
    const specification = specificationOf()
    const about = { vm: specification.name, uuid }
    const empty = await stateOf()
    const plan = await planned(host, 'vm.provision', { specification }, { about })
    assert.equal(await stateOf(), empty)
    assert.equal(plan.refusal, undefined)
    assert.equal(plan.ports?.added.length, 1)
    const subject = { ...about, generation: plan.generation?.next ?? 0 }
    await succeed(host, 'vm.provision', { specification }, { subject })
    const { before: made } = await host.hypervisor.draft({ kind: 'removal', name: about.vm }, wait())
    const [foretold, actual] = [plan.domain?.after, made].map((text) => readXml(text ?? ''))
    assert.ok(foretold && actual)
    assert.deepEqual(missingIn(actual, foretold), [])
  })

  it('of a change tell exactly what libvirt then has, and of any other verb change nothing', async () => {
    const vm = specificationOf().name
    const about = { vm, uuid }
    const image = { ...specificationOf().image, sha256: 'b'.repeat(64) }
    const before = await stateOf()
    const sizes = { cpus: 2, cpuLimitPercent: 150, rootDiskBytes: 160 * mebibyte }
    const resize = await planned(host, 'vm.resize', { vm, ...sizes }, { about })
    const others = {
      'vm.stop': { vm },
      'vm.reboot': { vm },
      'vm.reimage': { vm, image },
      'vm.teardown': { vm },
      'vm.repair': { vm }
    }
    for (const [verb, args] of Object.entries(others)) {
      const plan = await planned(host, verb, args, { about })
      assert.equal(plan.refusal, undefined, `${verb} ${plan.refusal?.message}`)
    }
    assert.equal(await stateOf(), before)
    const changed = (resize.domain?.diff ?? '').split('\n').filter((line) => /^[-+] /.test(line))
    assert.ok(
      changed.some((line) => /^\+.*<vcpu.*>2</.test(line)),
      changed.join('\n')
    )
    const subject = { ...about, generation: resize.generation?.next ?? 0 }
    await succeed(host, 'vm.resize', { vm, ...sizes }, { subject })
    const { before: made } = await host.hypervisor.draft({ kind: 'removal', name: vm }, wait())
    assert.equal(resize.domain?.after, made)
    // Nothing but what was asked for: three lines of metadata, and of the machine its vCPUs and its limit.
    assert.ok(changed.length <= 16, changed.join('\n'))
  })

  it('leave nothing when the VM is gone', async () => {
    const vm = specificationOf().name
    await succeed(host, 'vm.teardown', { vm }, { subject: { vm, uuid, generation: 99 } })
    const gone = await planned(host, 'vm.start', { vm }, { about: { vm, uuid } })
    assert.equal(gone.refusal?.code, 'E_NOT_FOUND')
  })
})

function ours(prefix: string): (text: string) => string {
  return (text) =>
    text
      .split('\n')
      .filter((line) => line.includes(prefix))
      .sort()
      .join('\n')
}

/** Elements, attributes and texts of one tree that the other has not: libvirt only adds to what it was given. */
function missingIn(actual: XmlNode | undefined, wanted: XmlNode, path = ''): string[] {
  const here = `${path}/${wanted.name}`
  if (actual === undefined) return [here]
  const attributes = Object.entries(wanted.attributes)
    // The kind of machine is one of a version once it is made.
    .filter(([key, value]) => actual.attributes[key] !== value && key !== 'machine')
    .map(([key, value]) => `${here} ${key}=${value}, not ${actual.attributes[key]}`)
  const texts = isSameText(actual.text, wanted.text) ? [] : [`${here} "${wanted.text}", not "${actual.text}"`]
  const children = wanted.children.flatMap((child) => {
    const candidates = actual.children.filter(({ name }) => name === child.name)
    const faults = candidates.map((each) => missingIn(each, child, here))
    return faults.some(({ length }) => length === 0)
      ? []
      : (faults.toSorted((left, right) => left.length - right.length)[0] ?? [`${here}/${child.name}`])
  })
  return [...attributes, ...texts, ...children]
}

function isSameText(one: string, other: string): boolean {
  const plain = (text: string) => text.replaceAll(/\s+/g, ' ').trim()
  return plain(one) === plain(other)
}
