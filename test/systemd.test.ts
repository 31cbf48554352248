// The units: as systemd reads them, as its own analysis rates them, and the settings that promises depend on.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { loadAgentConfig } from '../src/agent/config.ts'
import { qemuLogDirectory } from '../src/agent/host/qemu-logs.ts'

// Each point that is left is explained in docs/security.md.
const EXPOSURE_MAX = 1.8
const units = ['hostlet.service', 'hostlet-scheduler.service'] as const

const analyze = {
  skip: spawnSync('systemd-analyze', ['--version']).status === 0 ? false : 'systemd is not installed'
}
const asRoot = { skip: analyze.skip || (process.getuid?.() === 0 ? false : 'chown needs root') }

for (const unit of units) {
  test(`${unit}: systemd rates its exposure ${EXPOSURE_MAX} at most`, analyze, () => {
    const { stdout } = run('systemd-analyze', ['security', '--offline=true', '--no-pager', `systemd/${unit}`])
    const exposure = /Overall exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1]
    assert.ok(exposure, stdout)
    assert.ok(Number(exposure) <= EXPOSURE_MAX, `exposure ${exposure}`)
  })

  test(`${unit}: systemd finds nothing wrong`, analyze, (t) => {
    const directory = temporary(t)
    // The program is not installed where the tests run, and a program that is absent would be all that is reported.
    const text = readFileSync(`systemd/${unit}`, 'utf8').replace(/^ExecStart=\S+/m, 'ExecStart=/bin/true')
    writeFileSync(join(directory, unit), text)
    const { stdout, stderr, status } = run('systemd-analyze', [
      'verify',
      '--man=no',
      '--recursive-errors=no',
      join(directory, unit)
    ])
    assert.equal(stdout + stderr, '')
    assert.equal(status, 0)
  })

  test(`${unit}: is watched, restarts for ever, and not after a wrong configuration`, () => {
    const settings = readUnit(unit)
    assert.deepEqual(settings.get('Type'), ['notify'])
    assert.ok(Number(settings.get('WatchdogSec')?.[0]) >= 30)
    assert.deepEqual(settings.get('Restart'), ['always'])
    assert.deepEqual(settings.get('StartLimitIntervalSec'), ['0'])
    assert.deepEqual(settings.get('RestartPreventExitStatus'), ['78'])
    assert.deepEqual(settings.get('ExecReload'), ['/bin/kill -HUP $MAINPID'])
    // The messages come from a program that the service starts.
    assert.deepEqual(settings.get('NotifyAccess'), ['all'])
  })

  test(`${unit}: has no capability but what it needs, and no way to get one`, () => {
    const settings = readUnit(unit)
    // The agent applies the network rules of VMs; the scheduler needs nothing.
    const needed = unit === 'hostlet.service' ? 'CAP_NET_ADMIN' : ''
    assert.deepEqual(settings.get('CapabilityBoundingSet'), [needed])
    assert.deepEqual(settings.get('AmbientCapabilities'), [needed])
    assert.deepEqual(settings.get('NoNewPrivileges'), ['yes'])
    assert.notEqual(settings.get('User')?.[0], 'root')
    assert.equal(settings.has('MemoryDenyWriteExecute'), false, 'V8 could not compile')
    assert.equal(settings.has('ProcSubset'), false, '/proc/stat and meminfo would be hidden')
  })
}

test('the agent: ending it can end no VM, and takes no seed away', () => {
  const settings = readUnit('hostlet.service')
  for (const dependency of [
    'Requires',
    'BindsTo',
    'PartOf',
    'PropagatesStopTo',
    'Conflicts',
    'ExecStop',
    'ExecStopPost',
    'Slice'
  ]) {
    assert.equal(settings.has(dependency), false, dependency)
  }
  assert.deepEqual(settings.get('KillMode'), ['mixed'])
  assert.deepEqual(settings.get('RuntimeDirectoryPreserve'), ['yes'])
})

test('the agent: QEMU may pass through the run-time directory, nobody into the state directory', () => {
  const settings = readUnit('hostlet.service')
  assert.deepEqual(settings.get('RuntimeDirectory'), ['hostlet'])
  assert.deepEqual(settings.get('RuntimeDirectoryMode'), ['0711'])
  assert.deepEqual(settings.get('StateDirectory'), ['hostlet'])
  assert.deepEqual(settings.get('StateDirectoryMode'), ['0700'])
  // Of its user's groups, which sysusers.d gives it: a group that a distribution lacks would keep the unit from starting.
  assert.equal(settings.has('SupplementaryGroups'), false)
  const users = readFileSync('systemd/sysusers.d/hostlet.conf', 'utf8')
  for (const group of ['libvirt', 'libvirt-qemu'])
    assert.match(users, new RegExp(`^m hostlet ${group}$`, 'm'))
})

test('the agent: may write where restored disks are, and nowhere else outside of its own directories', () => {
  const settings = readUnit('hostlet.service')
  assert.deepEqual(settings.get('ProtectSystem'), ['strict'])
  const { pool } = loadAgentConfig('config/agent.yaml')
  assert.deepEqual(settings.get('ReadWritePaths'), [`-${pool.path}`, '-/var/log/libvirt/qemu'])
  const threads = /UV_THREADPOOL_SIZE=(\d+)/.exec(settings.get('Environment')?.join(' ') ?? '')?.[1]
  assert.ok(Number(threads) < Number(settings.get('TasksMax')?.[0]) / 4)
})

for (const sampleName of ['backups.conf', 'addresses.conf'])
  test(`the sample ${sampleName}: each of its lines is one that systemd takes`, analyze, (t) => {
    const directory = temporary(t)
    const unit = readFileSync('systemd/hostlet.service', 'utf8').replace(
      /^ExecStart=\S+/m,
      'ExecStart=/bin/true'
    )
    const sample = readFileSync(join('systemd/hostlet.service.d', sampleName), 'utf8')
    assert.ok((sample.match(/^#\w+=/gm) ?? []).length >= 3, sample)
    writeFileSync(join(directory, 'hostlet.service'), unit)
    mkdirSync(join(directory, 'hostlet.service.d'))
    const used = sample.replace(/^#(?=\w+=)/gm, '')
    writeFileSync(join(directory, 'hostlet.service.d', sampleName), used)
    const args = ['verify', '--man=no', '--recursive-errors=no', join(directory, 'hostlet.service')]
    const { stdout, stderr, status } = run('systemd-analyze', args)
    assert.equal(stdout + stderr, '')
    assert.equal(status, 0)
  })

test("the mount of QEMU's logs: systemd finds nothing wrong, and memory is what it mounts", analyze, (t) => {
  const directory = temporary(t)
  const name = 'var-log-libvirt-qemu.mount'
  cpSync(join('systemd', name), join(directory, name))
  const args = ['verify', '--man=no', '--recursive-errors=no', join(directory, name)]
  const { stdout, stderr, status } = run('systemd-analyze', args)
  assert.equal(stdout + stderr, '')
  assert.equal(status, 0)
  const settings = readUnit(name)
  assert.deepEqual(settings.get('Type'), ['tmpfs'])
  assert.deepEqual(settings.get('Where'), [qemuLogDirectory])
  // Whoever is in QEMU's group could plant a link where virtlogd, as root, writes.
  assert.match(settings.get('Options')?.[0] ?? '', /mode=0770,gid=hostlet,/)
  for (const writer of ['virtlogd.service', 'libvirtd.service', 'virtqemud.service'])
    assert.ok(settings.get('Before')?.[0]?.split(' ').includes(writer), writer)
})

test('users and directories are made as the units need them', asRoot, (t) => {
  const root = temporary(t)
  for (const directory of ['etc/hostlet', 'usr/lib/sysusers.d', 'usr/lib/tmpfiles.d', 'var/lib']) {
    mkdirSync(join(root, directory), { recursive: true })
  }
  cpSync('systemd/sysusers.d/hostlet.conf', join(root, 'usr/lib/sysusers.d/hostlet.conf'))
  cpSync('systemd/tmpfiles.d/hostlet.conf', join(root, 'usr/lib/tmpfiles.d/hostlet.conf'))
  for (const file of ['agent.yaml', 'policy.yaml']) {
    writeFileSync(join(root, 'etc/hostlet', file), '')
    chmodSync(join(root, 'etc/hostlet', file), 0o666)
  }
  for (const tool of ['systemd-sysusers', 'systemd-tmpfiles --create']) {
    const [command = '', ...args] = tool.split(' ')
    const { stderr, status } = run(command, [...args, `--root=${root}`, 'hostlet.conf'])
    assert.equal(status, 0, stderr)
  }
  const users = readFileSync(join(root, 'etc/passwd'), 'utf8')
  for (const unit of units) {
    const name = readUnit(unit).get('User')?.[0] ?? ''
    const [, , uid, gid] = new RegExp(`^${name}:.*$`, 'm').exec(users)?.[0].split(':') ?? []
    const state = statSync(join(root, 'var/lib', name))
    assert.deepEqual([state.uid, state.gid, state.mode & 0o777], [Number(uid), Number(gid), 0o700])
  }
  const groups = readFileSync(join(root, 'etc/group'), 'utf8')
  for (const group of ['libvirt', 'libvirt-qemu']) {
    assert.match(groups, new RegExp(`^${group}:.*[:,]hostlet(,|$)`, 'm'))
  }
  for (const file of ['agent.yaml', 'policy.yaml']) {
    const { mode, uid } = statSync(join(root, 'etc/hostlet', file))
    assert.deepEqual([mode & 0o777, uid], [0o640, 0], file)
  }
  const pool = statSync(join(root, 'var/lib/libvirt/images/hostlet'))
  assert.deepEqual([pool.uid, pool.mode & 0o777], [0, 0o711])
})

function readUnit(unit: string): Map<string, string[]> {
  const settings = new Map<string, string[]>()
  for (const [, name = '', value = ''] of readFileSync(`systemd/${unit}`, 'utf8').matchAll(
    /^(\w+)=(.*)$/gm
  )) {
    settings.set(name, [...(settings.get(name) ?? []), value])
  }
  return settings
}

function temporary(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-systemd-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

function run(command: string, args: readonly string[]) {
  return spawnSync(command, args, { encoding: 'utf8', env: { PATH: process.env.PATH, LC_ALL: 'C.UTF-8' } })
}
