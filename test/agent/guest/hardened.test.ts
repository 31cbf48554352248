// The hardened set-up of a guest: read by cloud-init, its firewall by nft in a network namespace, its settings by sshd, where they are installed.

import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { parse } from 'yaml'
import {
  banSettings,
  cloudConfig,
  earlyScript,
  firewallRules,
  hardenedVendorData,
  lateScript,
  reachesPackages,
  sshSettings
} from '../../../src/agent/guest/hardened.ts'
import { profileOf } from '../../../src/agent/profiles.ts'
import type { VmSpecification } from '../../../src/protocol/vm.ts'

const run = promisify(execFile)
/** Debian packages that were unpacked without being installed: an SSH server is nothing to start on a developer's machine. */
const tools = process.env.HOSTLET_TEST_GUEST_TOOLS ?? '/'
const sshd = join(tools, 'usr/sbin/sshd')
const cloudInit = join(tools, 'usr/lib/python3/dist-packages')
const python = '/usr/bin/python3'
const isRoot = process.getuid?.() === 0

describe('the hardened set-up of a guest', () => {
  let directory: string

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-hardened-'))
  })
  after(() => rmSync(directory, { recursive: true, force: true }))

  it('lets in SSH, the mapped ports and those that are looked at, and nothing else', () => {
    const rules = firewallRules(vm())
    assert.match(rules, /policy drop;/)
    assert.match(rules, /tcp dport \{ 22, 80, 5432, 8080 \} accept/)
    assert.match(rules, /udp dport \{ 5353 \} accept/)
    assert.doesNotMatch(firewallRules(vm({ network: {} })), /udp dport \{/)
    assert.match(firewallRules(bare), /tcp dport \{ 22 \} accept/)
  })

  it('fetches packages only where the profile and the command leave a way out', () => {
    const common = { network: 'n', bridge: 'b', subnet: '10.0.0.0/24' }
    const open = profileOf(common)
    assert.equal(reachesPackages({}, open), true)
    assert.equal(reachesPackages({ network: { egress: { mode: 'none' } } }, open), false)
    assert.equal(reachesPackages({ network: { dns: false } }, open), false)
    assert.equal(reachesPackages({}, profileOf({ ...common, dns: false })), false)
    const shut = profileOf({ ...common, egress: { mode: 'none' } })
    assert.equal(reachesPackages({ network: { egress: { mode: 'all' } } }, shut), false)
    assert.match(lateScript(true), /apt-get .*install .*fail2ban .*unattended-upgrades/)
    assert.doesNotMatch(lateScript(false), /apt-get/)
  })

  it('says nothing in cloud-init’s own keys that user data commonly says', () => {
    const config = parse(cloudConfig()) as Record<string, unknown>
    assert.deepEqual(config, { ssh_pwauth: false, disable_root: true })
  })

  it('consists of scripts that a shell can read, which leave exactly the files that they should', async () => {
    for (const script of [earlyScript(vm()), lateScript(true), lateScript(false)])
      await run('sh', ['-n', '-c', script])
    const root = join(directory, 'root')
    // The script as it is, with every absolute path of a file that it writes below the test's own directory.
    const moved = earlyScript(vm()).replaceAll(/(?<=[ >])\/etc\//g, `${root}/etc/`)
    execFileSync('mkdir', ['-p', `${root}/etc/ssh`])
    writeFileSync(`${root}/etc/ssh/sshd_config`, 'PasswordAuthentication yes\n')
    // Nothing of this machine is changed: neither its firewall nor its services are found.
    const bin = join(directory, 'bin')
    execFileSync('mkdir', ['-p', bin])
    for (const program of ['mkdir', 'cat', 'grep', 'mv']) symlinkSync(`/bin/${program}`, join(bin, program))
    await run('/bin/sh', ['-c', moved], { env: { PATH: bin } })
    const settings = readFileSync(`${root}/etc/ssh/sshd_config`, 'utf8')
    assert.equal(settings, `${sshSettings()}PasswordAuthentication yes\n`, 'an old image reads them nowhere')
    const written = execFileSync('find', [root, '-type', 'f', '-printf', '%P\n'], { encoding: 'utf8' })
    assert.deepEqual(written.trim().split('\n').sort(), [
      'etc/apt/apt.conf.d/52hostlet-upgrades',
      'etc/fail2ban/jail.d/hostlet.local',
      'etc/hostlet/firewall.nft',
      'etc/ssh/sshd_config',
      'etc/ssh/sshd_config.d/00-hostlet.conf',
      'etc/systemd/system/hostlet-firewall.service'
    ])
  })

  it('is vendor data that cloud-init takes apart as it was meant', {
    skip: lacks(join(cloudInit, 'cloudinit'), 'cloud-init')
  }, async () => {
    const path = join(directory, 'vendor-data')
    writeFileSync(path, hardenedVendorData(vm(), { packages: true }))
    const program = [
      'import sys, json',
      'from cloudinit import user_data, helpers',
      'text = open(sys.argv[1], "rb").read()',
      'message = user_data.UserDataProcessor(helpers.Paths({})).process(text)',
      'print(json.dumps([[p.get_content_type(), p.get_payload(decode=True).decode()] for p in message.walk() if not p.is_multipart()]))'
    ].join('\n')
    const { stdout } = await run(python, ['-c', program, path], { env: pythonEnvironment() })
    assert.deepEqual(JSON.parse(stdout), [
      ['text/cloud-config', cloudConfig()],
      ['text/cloud-boothook', earlyScript(vm())],
      ['text/x-shellscript', lateScript(true)]
    ])
    const config = join(directory, 'cloud-config.yaml')
    writeFileSync(config, cloudConfig())
    const check = await run(python, ['-m', 'cloudinit.cmd.main', 'schema', '--config-file', config], {
      env: pythonEnvironment()
    })
    assert.match(check.stdout, /Valid cloud-config/)
  })

  it('is settings that sshd takes, and that win over those of the image', {
    skip: lacks(sshd, 'sshd') || needsRoot()
  }, async () => {
    const file = (name: string) => join(directory, name)
    execFileSync('openssl', ['genpkey', '-algorithm', 'RSA', '-out', file('host-key')], { stdio: 'ignore' })
    execFileSync('chmod', ['600', file('host-key')])
    execFileSync('mkdir', ['-p', file('sshd_config.d'), '/run/sshd'])
    writeFileSync(file('sshd_config.d/00-hostlet.conf'), sshSettings())
    writeFileSync(file('sshd_config.d/50-cloud-init.conf'), 'PasswordAuthentication yes\n')
    const image = `Include ${file('sshd_config.d')}/*.conf\nHostKey ${file('host-key')}\nPermitRootLogin yes\n`
    writeFileSync(file('sshd_config'), image)
    // Where it was unpacked only, its user is missing: it has one in a view of the machine of its own.
    const people = readFileSync('/etc/passwd', 'utf8').replaceAll(/^sshd:.*\n/gm, '')
    writeFileSync(file('passwd'), `${people}sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n`)
    const ask = (flag: string) => {
      const line = `mount --bind ${file('passwd')} /etc/passwd && exec ${sshd} ${flag} -f ${file('sshd_config')}`
      return run('unshare', ['--mount', 'sh', '-c', line])
    }
    await ask('-t')
    const { stdout } = await ask('-T')
    for (const line of [
      'permitrootlogin no',
      'passwordauthentication no',
      'kbdinteractiveauthentication no',
      'pubkeyauthentication yes',
      'authenticationmethods publickey'
    ])
      assert.ok(stdout.split('\n').includes(line), line)
  })

  it('is a firewall that nft loads again and again, and that drops what nobody asked for', {
    skip: lacks('/usr/sbin/nft', 'nft') || needsRoot()
  }, async () => {
    const path = join(directory, 'firewall.nft')
    writeFileSync(path, firewallRules(vm()))
    const name = `hl-t-${randomBytes(3).toString('hex')}`
    const inside = (...words: string[]) => run('ip', ['netns', 'exec', name, ...words])
    await run('ip', ['netns', 'add', name])
    try {
      await run('ip', ['-n', name, 'link', 'set', 'lo', 'up'])
      await inside('nft', '-c', '-f', path)
      for (let times = 0; times < 2; times++) await inside('nft', '-f', path)
      const { stdout } = await inside('nft', '-j', 'list', 'ruleset')
      const { nftables } = JSON.parse(stdout) as { nftables: Record<string, unknown>[] }
      assert.equal(nftables.filter((each) => 'table' in each).length, 1)
      assert.equal(nftables.filter((each) => 'rule' in each).length, 7)
    } finally {
      await run('ip', ['netns', 'del', name])
    }
  })

  it('names a jail that fail2ban knows', {
    skip: lacks(join(tools, 'etc/fail2ban/jail.conf'), 'fail2ban')
  }, () => {
    const known = execFileSync('cat', [join(tools, 'etc/fail2ban/jail.conf')], { encoding: 'utf8' })
    assert.match(known, /^\[sshd\]$/m)
    assert.match(banSettings(), /\[sshd\]\nenabled = true/)
    assert.ok(existsSync(join(tools, 'etc/fail2ban/action.d/nftables-multiport.conf')))
  })
})

function pythonEnvironment(): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, PYTHONPATH: cloudInit, LC_ALL: 'C.UTF-8' }
}

function lacks(path: string, what: string): string | false {
  return existsSync(path) ? false : `${what} is not installed`
}

function needsRoot(): string | false {
  return isRoot ? false : 'takes root'
}

const bare: VmSpecification = {
  name: 'web-1',
  uuid: '0b54e6f2-6b53-4a3e-9d1c-0123456789ab',
  profile: 'starter',
  image: { url: 'https://images.test/a', sha256: 'a'.repeat(64), format: 'raw' },
  cpus: 1,
  memoryBytes: 256 * 1024 ** 2,
  rootDiskBytes: 1024 ** 2
}

function vm(change: Partial<VmSpecification> = {}): VmSpecification {
  return {
    ...bare,
    ready: { tcpPort: 22, http: { port: 80, path: '/' } },
    health: [{ name: 'db', kind: 'tcp', port: 5432 }],
    network: {
      ports: [
        { transport: 'tcp', hostPort: 2080, vmPort: 8080 },
        { transport: 'udp', hostPort: 2053, vmPort: 5353 }
      ]
    },
    ...change
  }
}
