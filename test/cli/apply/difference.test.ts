// Files of VMs: what they say, what differs from what there is, and what is done about it.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { stringify } from 'yaml'
import type { ExistingVm } from '../../../src/cli/apply/changes.ts'
import { differenceOf } from '../../../src/cli/apply/difference.ts'
import { manifestOf } from '../../../src/cli/apply/export.ts'
import { readWanted } from '../../../src/cli/apply/files.ts'
import type { VmSpecification } from '../../../src/protocol/vm.ts'

const directory = mkdtempSync(join(tmpdir(), 'hostlet-apply-'))
after(() => rmSync(directory, { recursive: true }))
const digest = 'a'.repeat(64)
const gibibyte = 1024 ** 3

function file(name: string, text: string): string {
  const path = join(directory, name)
  writeFileSync(path, text)
  return path
}

function existing(changes: Partial<VmSpecification> = {}, vm: Partial<ExistingVm['vm']> = {}): ExistingVm {
  const specification: VmSpecification = {
    name: 'web-1',
    uuid: '0b54e6f2-6b53-4a3e-9d1c-0123456789ab',
    profile: 'starter',
    image: { url: 'https://x/y.qcow2', sha256: digest, format: 'qcow2' },
    cpus: 2,
    cpuLimitPercent: 150,
    memoryBytes: 1.5 * gibibyte,
    rootDiskBytes: 10 * gibibyte,
    dataDiskBytes: 20 * gibibyte + 512,
    diskLimits: { bytesPerSecondMax: 50 * 1024 ** 2 },
    seed: { hostname: 'web', sshAuthorizedKeys: ['ssh-ed25519 AAAA me'], hardened: true },
    ready: { tcpPort: 22, http: { port: 80, path: '/up' }, timeoutMs: 90_000 },
    network: {
      egress: {
        mode: 'list',
        allow: [{ transport: 'tcp', addresses: ['203.0.113.0/24'], ports: [443, 8443] }]
      },
      dns: false,
      receiveBytesPerSecondMax: 10 * 1024 ** 2,
      ports: [
        { transport: 'tcp', hostPort: 20_080, vmPort: 80 },
        { transport: 'udp', hostPort: 20_053, vmPort: 53, sources: ['198.51.100.0/24', '203.0.113.7'] }
      ]
    },
    health: [{ name: 'shop', kind: 'http', port: 80, path: '/health' }],
    consoleLog: true,
    ...changes
  }
  const { name, uuid, profile, cpus, memoryBytes } = specification
  const summary = {
    name,
    uuid,
    profile,
    cpus,
    memoryBytes,
    state: 'running',
    reason: 'booted',
    wanted: 'running',
    generation: 3
  } as const
  return {
    host: 'kvm-1',
    specification,
    backupSchedule: { target: 'main', everyMs: 21_600_000, keep: { last: 4, daily: 7 } },
    vm: { ...summary, ...vm }
  }
}

function difference(text: string, found: ExistingVm | undefined, replace = false) {
  const [wanted] = readWanted([file('vm.yaml', text)])
  assert.ok(wanted)
  return differenceOf(wanted, found, { replace })
}

function faults(...texts: readonly string[]): string {
  const paths = texts.map((text, at) => file(`${at}.yaml`, text))
  try {
    readWanted(paths)
  } catch (error) {
    return (error as Error).message.replaceAll(`${directory}/`, '')
  }
  return ''
}

describe('a file of VMs', () => {
  it('that was exported changes nothing of the VM that it is of', () => {
    for (const found of [
      existing(),
      existing({ seed: undefined, network: undefined, health: undefined } as never, {
        state: 'stopped',
        wanted: 'stopped'
      }),
      { ...existing(), backupSchedule: null },
      { ...existing(), placement: { require: { region: 'eu' }, group: 'web' } }
    ]) {
      const text = stringify(manifestOf(found, found.host))
      assert.deepEqual(difference(text, found).changes, [], text)
    }
  })

  it('tells every fault of all files with line and column, and what was meant', () => {
    const text = faults(
      'vm: web-1\ncpus: 400\nprots: [20080:80]\n---\nvm: Web\n',
      `vm: web-2\nmemory: much\nports: [x]\nbackup: {target: main}\nimage: https://x/y\n`
    )
    assert.match(text, /0\.yaml:2:7: expected a number of at most 256/)
    assert.match(text, /0\.yaml:3:1: .*"prots" \(did you mean "ports"\?\)/)
    assert.match(text, /0\.yaml:5:5: expected a name of lowercase letters/)
    assert.match(text, /1\.yaml:2:9: memory: "much" is not a size/)
    assert.match(text, /1\.yaml:3:8: .*x is not as 20080:80/)
    assert.match(text, /1\.yaml:4:9: .*either "every" or "cron"/)
    assert.match(text, /1\.yaml:5:8: .*"image" and "sha256" go together/)
  })

  it('gives each VM once, names files that are there, and refuses private keys', () => {
    assert.match(faults('vm: web-1\n', 'vm: web-1\n'), /1\.yaml:1: VM web-1 is in .*0\.yaml:1 already/)
    assert.match(faults('vm: web-1\nuserDataFile: nowhere\n'), /user data cannot be read \(ENOENT\)/)
    file('key', '-----BEGIN OPENSSH PRIVATE KEY-----\n')
    assert.match(faults('vm: web-1\nsshKeyFiles: [key]\n'), /private key/)
    assert.throws(() => readWanted([join(directory, 'nope')]), { code: 'E_NOT_FOUND' })
  })

  it('leaves alone what it does not say', () => {
    assert.deepEqual(difference('vm: web-1\n', existing()).changes, [])
  })

  it('changes sizes in one request, the schedule, and the power at last', () => {
    const text =
      'vm: web-1\ncpus: 4\nmemory: 2GiB\ndisk: 12GiB\ncpuLimit: none\nbackup: none\nwanted: stopped\n'
    const { actions, changes } = difference(text, existing())
    assert.deepEqual(
      changes.map(({ what, from, to }) => `${what} ${from} ${to}`),
      [
        'cpus 2 4',
        'memory 1536MiB 2GiB',
        'disk 10GiB 12GiB',
        'cpuLimit 150 none',
        'backup {"target":"main","every":"6h","keep":{"last":4,"daily":7}} none',
        'wanted running (wanted running) stopped'
      ]
    )
    assert.deepEqual(actions, [
      {
        kind: 'resize',
        method: 'POST',
        path: '/v1/vms/web-1/resize',
        body: { cpus: 4, memoryBytes: 2 * gibibyte, rootDiskBytes: 12 * gibibyte, cpuLimitPercent: null }
      },
      { kind: 'schedule', method: 'DELETE', path: '/v1/vms/web-1/backup-schedule' },
      { kind: 'stop', method: 'POST', path: '/v1/vms/web-1/stop', body: {} }
    ])
  })

  it('refuses what cannot be changed, with the reason, and then does nothing by halves', () => {
    const text =
      'vm: web-1\ncpus: 4\nhost: kvm-2\nprofile: premium\ndisk: 1GiB\negress: all\nports: []\nhealth: [tls:443]\nseed: false\n'
    const { actions, changes } = difference(text, existing())
    assert.deepEqual(actions, [])
    const refused = new Map(changes.map(({ what, refused: why }) => [what, why]))
    assert.equal(refused.get('cpus'), undefined)
    assert.match(refused.get('host') ?? '', /not moved.*vm restore web-1 --host kvm-2/)
    assert.match(refused.get('profile') ?? '', /profile of a VM stays/)
    assert.match(refused.get('disk') ?? '', /only grow/)
    for (const what of ['egress', 'ports', 'health'])
      assert.match(refused.get(what) ?? '', /settled when a VM is made/)
    assert.match(refused.get('seed') ?? '', /without a seed/)
    const dataless = difference(
      'vm: web-1\ndataDisk: 1GiB\n',
      existing({ dataDiskBytes: undefined } as never)
    )
    assert.match(dataless.changes[0]?.refused ?? '', /cannot be added later/)
  })

  it('makes a root disk anew only where that is asked for, and switches off again what was off', () => {
    const text = `vm: web-1\nimage: https://x/z.qcow2\nsha256: ${'b'.repeat(64)}\nhostname: shop\n`
    assert.match(difference(text, existing()).changes[0]?.refused ?? '', /With --replace/)
    const off = existing({}, { state: 'stopped', wanted: 'stopped' })
    const { actions } = difference(text, off, true)
    assert.deepEqual(
      actions.map(({ kind }) => kind),
      ['reimage', 'stop']
    )
    assert.deepEqual(actions[0]?.body, {
      image: { url: 'https://x/z.qcow2', sha256: 'b'.repeat(64), format: 'qcow2' },
      seed: { hostname: 'shop' }
    })
    const elsewhere = `vm: web-1\nimage: https://mirror/y.qcow2\nsha256: ${digest}\n`
    assert.deepEqual(difference(elsewhere, existing()).changes, [])
  })

  it('makes a VM that is not there, as "vm create" would, with its schedule and off where it says so', () => {
    const text = `vm: web-9\nimage: https://x/y\nsha256: sha256:${digest}\nports: [20081:80]\nbackup: {target: main, cron: "30 2 * * *"}\nwanted: stopped\n`
    const { actions } = difference(text, undefined)
    assert.deepEqual(
      actions.map(({ kind }) => kind),
      ['create', 'schedule', 'stop']
    )
    assert.deepEqual(actions[0]?.body, {
      specification: {
        name: 'web-9',
        profile: 'starter',
        image: { url: 'https://x/y', sha256: digest, format: 'qcow2' },
        cpus: 1,
        memoryBytes: 512 * 1024 ** 2,
        rootDiskBytes: 4 * gibibyte,
        seed: {},
        network: { ports: [{ transport: 'tcp', hostPort: 20_081, vmPort: 80 }] }
      }
    })
    assert.match(difference('vm: web-9\n', undefined).changes[0]?.refused ?? '', /Give "image" and "sha256"/)
  })

  it('takes wishes for the choice of a host along, which is made once', () => {
    const wish = 'placement: {require: {region: eu}, group: web, apart: true}\n'
    const made = difference(`vm: web-9\nimage: https://x/y\nsha256: ${digest}\n${wish}`, undefined)
    assert.deepEqual(Object(made.actions[0]?.body).placement, {
      require: { region: 'eu' },
      group: 'web',
      apart: true
    })
    const [change] = difference(`vm: web-1\n${wish}`, existing()).changes
    assert.deepEqual([change?.from, change?.to], ['none', 'requires region=eu; group web, apart by host'])
    assert.match(change?.refused ?? '', /made once/)
    assert.match(
      faults('vm: web-1\nplacement: {requires: {region: eu}}\n'),
      /"requires" \(did you mean "require"\?\)/
    )
  })
})
