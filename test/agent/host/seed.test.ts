// NoCloud seeds: what is in them, who may read them, and that no string of a command becomes YAML.

import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { parse } from 'yaml'
import { Seeds, seedFiles } from '../../../src/agent/host/seed.ts'
import type { Seed, VmSpecification } from '../../../src/protocol/vm.ts'

const run = promisify(execFile)
const uuid = '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'
const wait = () => ({ signal: AbortSignal.timeout(30_000) })
const placement = {
  uid: 1_900_000_000,
  macAddress: '52:00:00:00:00:01',
  address: '10.90.0.2',
  network: 'hl-net',
  rootVolume: 'r',
  dataVolume: null
}

const plain = { packages: false }

describe('files of a seed', () => {
  it('name the VM and find its network card by MAC', () => {
    const files = seedFiles(vm({}), placement, plain)
    assert.deepEqual(parse(files['meta-data'] ?? ''), { 'instance-id': uuid, 'local-hostname': 'web-1' })
    assert.deepEqual(parse(files['network-config'] ?? ''), {
      version: 2,
      ethernets: { main: { match: { macaddress: '52:00:00:00:00:01' }, dhcp4: true } }
    })
  })

  it('keep every key one string, whatever it looks like', () => {
    const keys = [
      'ssh-rsa AAAA no',
      'ssh-rsa AAAA # comment: x',
      'ssh-rsa AAAA "\'{}[]*&!|>%@`',
      'ssh-rsa AAAA a: b'
    ]
    const text =
      seedFiles(vm({ hostname: 'true', sshAuthorizedKeys: keys }), placement, plain)['user-data'] ?? ''
    assert.ok(text.startsWith('#cloud-config\n'))
    assert.deepEqual(parse(text), { hostname: 'true', ssh_authorized_keys: keys })
  })

  it('have vendor data that hardens the guest, unless it has user data of its own or was told otherwise', () => {
    const has = (seed: Seed) => 'vendor-data' in seedFiles(vm(seed), placement, plain)
    assert.equal(has({}), true)
    assert.equal(has({ hardened: false }), false)
    assert.equal(has({ userData: 'sealed' }), false)
    assert.equal(has({ userData: 'sealed', hardened: true }), true)
  })

  it('hand user data on as it is', () => {
    const userData = '#!/bin/sh\necho "as: it is"\n'
    assert.equal(seedFiles(vm({}), placement, { ...plain, userData })['user-data'], userData)
  })
})

describe('seeds', { skip: canMake() ? false : 'no program that makes ISO images is installed' }, () => {
  it('are CDs labelled CIDATA that only their owner reads, and go without a trace', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'hostlet-seeds-'))
    try {
      const seeds = new Seeds({ directory: join(directory, 'seeds') })
      const path = await seeds.write(vm({ hostname: 'one' }), placement, plain, wait())
      await seeds.write(vm({ hostname: 'two' }), placement, plain, wait())
      assert.equal((await stat(path)).mode & 0o777, 0o600)
      assert.equal((await stat(join(directory, 'seeds'))).mode & 0o777, 0o711)
      const bytes = await readFile(path)
      assert.equal(bytes.subarray(0x8028, 0x8048).toString('latin1').trim(), 'CIDATA')
      if (installed('isoinfo')) {
        const { stdout } = await run('isoinfo', ['-R', '-i', path, '-x', '/meta-data'])
        assert.equal(parse(stdout)['local-hostname'], 'two')
      }
      assert.deepEqual(await readdir(join(directory, 'seeds')), [`${uuid}.iso`])
      await seeds.remove(uuid)
      await seeds.remove(uuid)
      assert.deepEqual(await readdir(join(directory, 'seeds')), [])
    } finally {
      await rm(directory, { recursive: true })
    }
  })

  it('that a killed agent left half-made are removed, whole ones stay', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'hostlet-seeds-'))
    try {
      const seeds = new Seeds({ directory })
      await seeds.write(vm({}), placement, plain, wait())
      await mkdtemp(join(directory, 'work-'))
      await writeFile(join(directory, 'work-file'), 'half')
      await seeds.prepare()
      assert.deepEqual(await readdir(directory), [`${uuid}.iso`])
    } finally {
      await rm(directory, { recursive: true })
    }
  })
})

function vm(seed: Seed): VmSpecification {
  return {
    name: 'web-1',
    uuid,
    profile: 'starter',
    image: { url: 'https://images.test/a', sha256: 'a'.repeat(64), format: 'raw' },
    cpus: 1,
    memoryBytes: 256 * 1024 ** 2,
    rootDiskBytes: 1024 ** 2,
    seed
  }
}

function canMake(): boolean {
  return installed('genisoimage') || installed('xorriso')
}

function installed(program: string): boolean {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
