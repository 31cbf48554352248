// The Debian package, by the real dpkg, on a machine of its own: installed, used, upgraded below a running VM, removed, purged.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { sourceEpoch, sourceVersion } from '../../scripts/package/version.ts'
import { buildPackage } from '../../scripts/package.ts'
import { BootedMachine, cannotBoot } from './booted/machine.ts'

const root = join(import.meta.dirname, '../..')
const guest = join(root, '.cache/guest/hostlet-guest.qcow2')
const skip =
  cannotBoot() || (existsSync(guest) ? false : 'the guest image is not built: run "sh scripts/setup.sh"')

const nextVersion = '99.1.0-rc.1'
const services = ['hostlet', 'hostlet-scheduler']
/** What the package makes besides its files. */
const made = [
  '/etc/hostlet',
  '/run/hostlet-upgrade',
  '/var/cache/hostlet',
  '/var/lib/hostlet',
  '/var/lib/hostlet-scheduler',
  '/var/lib/libvirt/images/hostlet'
]
const dpkg = 'DEBIAN_FRONTEND=noninteractive dpkg --force-unsafe-io'

describe('the package', { skip, timeout: 600_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-deb-'))
  let machine: BootedMachine

  before(async () => {
    const compression = 'none'
    // A commit meanwhile is no reason for other bytes.
    process.env.SOURCE_DATE_EPOCH ??= String(sourceEpoch(root))
    const [first, again, next] = [
      await buildPackage({ out: join(directory, 'first'), compression }),
      await buildPackage({ out: join(directory, 'again'), compression }),
      await buildPackage({ out: join(directory, 'next'), compression, version: nextVersion })
    ]
    machine = await BootedMachine.boot({ bare: true })
    machine.copy(first, '/tmp/first.deb')
    machine.copy(again, '/tmp/again.deb')
    machine.copy(next, '/tmp/next.deb')
    machine.copy(guest, '/var/lib/images/guest.qcow2')
    // The only Node is the one that the package brings.
    await machine.must('rm -f /usr/bin/node /usr/local/bin/node; ! command -v node')
  })

  after(async () => {
    await machine?.[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  })

  it('has the same bytes when it is built again', async () => {
    const digest = (name: string) =>
      createHash('sha256')
        .update(readFileSync(machine.path(`/tmp/${name}.deb`)))
        .digest('hex')
    assert.equal(digest('again'), digest('first'))
  })

  it('is installed, upgraded and purged where no systemd runs', async () => {
    const steps = [
      'mount -t tmpfs tmpfs /run',
      `${dpkg} -i /tmp/first.deb`,
      'id hostlet-scheduler && test -d /var/lib/hostlet && hostlet version',
      `${dpkg} -i /tmp/next.deb`,
      `${dpkg} -P hostlet`
    ]
    await machine.must(`unshare --mount sh -ec '${steps.join('; ')}'`)
  })

  it('starts and enables nothing', async () => {
    await machine.must(`${dpkg} -i /tmp/first.deb`)
    for (const unit of [...services.map((name) => `${name}.service`), 'var-log-libvirt-qemu.mount']) {
      assert.equal(await machine.setting(unit, 'ActiveState'), 'inactive', unit)
      assert.equal(await machine.setting(unit, 'UnitFileState'), 'disabled', unit)
    }
  })

  it('makes users and directories, and runs without another Node', async () => {
    assert.match(await machine.must('hostlet version'), new RegExp(`^hostlet ${sourceVersion(root)} `))
    assert.match(await machine.must('id -nG hostlet'), /libvirt-qemu/)
    assert.equal(
      await machine.must('stat -c "%U %a" /var/lib/hostlet /var/lib/hostlet-scheduler'),
      'hostlet 700\nhostlet-scheduler 700\n'
    )
    assert.equal(await machine.must('stat -c "%G %a" /etc/hostlet/agent.yaml'), 'hostlet 640\n')
    const doctor = JSON.parse((await machine.run('hostlet doctor -o json')).stdout)
    assert.ok(doctor.findings.length > 10)
    await machine.must('hostlet config check /etc/hostlet/agent.yaml')
    await machine.must('hostlet config check /etc/hostlet/scheduler.yaml')
    await machine.must('gzip -t /usr/share/man/man1/hostlet.1.gz /usr/share/man/man5/hostlet-agent.yaml.5.gz')
    assert.equal(
      await machine.must(
        '. /usr/share/bash-completion/completions/hostlet; COMP_LINE="hostlet vm sto" COMP_POINT=14 _hostlet; echo "$COMPREPLY"'
      ),
      'stop\n'
    )
  })

  it('leaves nothing where it was purged before use', async () => {
    const own = (await machine.must('dpkg -L hostlet')).split('\n').filter((path) => path.includes('hostlet'))
    assert.ok(own.length > 100)
    await machine.must(`${dpkg} -P hostlet`)
    for (const path of [...own, ...made]) assert.equal(existsSync(machine.path(path)), false, path)
    assert.equal((await machine.run('dpkg -s hostlet')).status, 1)
  })

  it('does all its work: agent, scheduler, a VM, a backup', async () => {
    await machine.must(`${dpkg} -i /tmp/first.deb`)
    await machine.must('hostlet backup keygen --out /run/recovery.jwk')
    await configure()
    await machine.must('systemctl start var-log-libvirt-qemu.mount')
    await machine.must('install -d -o hostlet -g hostlet -m 700 /var/backups/hostlet')
    await machine.must('systemctl start hostlet-scheduler')
    await machine.join()
    await machine.must('systemctl start hostlet')
    await machine.untilConnected()
    const digest = readFileSync(`${guest}.sha256`, 'utf8').slice(0, 64)
    await machine.must(
      `hostlet vm create web-1 --image file:///var/lib/images/guest.qcow2 --sha256 ${digest} --cpus 1 --memory 256M --disk 1G`
    )
    const { operation } = JSON.parse(await machine.must('hostlet vm backup web-1 --target local -o json'))
    await machine.must(`hostlet backup verify ${operation.value.record.snapshot}`)
    assert.deepEqual(await machine.warnings(), [])
  })

  it('loads what it loads when it is used: the clients of image servers and of S3', async () => {
    const nobody = 'https://127.0.0.1:1'
    const image = `--image ${nobody}/x.qcow2 --sha256 ${'a'.repeat(64)}`
    const [{ id }] = JSON.parse(await machine.must('hostlet host ls -o json')).hosts
    const fetched = await machine.run(`hostlet image prefetch --host ${id} ${image}`)
    assert.match(fetched.stderr, /E_UNAVAILABLE.*ECONNREFUSED/)
    machine.write('/run/s3.json', '{"accessKeyId":"a","secretAccessKey":"b"}')
    const listed = await machine.run(
      `hostlet backup ls --repository s3://bucket/x --endpoint ${nobody} --credentials /run/s3.json --key /run/recovery.jwk`
    )
    assert.match(listed.stderr, /E_UNAVAILABLE.*ECONNREFUSED/)
  })

  it('is upgraded: what ran runs again as the new release, and the VM does not notice', async () => {
    const [qemu, ...before] = [await qemuPid(), ...(await mainPids())]
    await machine.must(`${dpkg} -i /tmp/next.deb`)
    const after = await mainPids()
    for (const [index, unit] of services.entries()) assert.notEqual(after[index], before[index], unit)
    await machine.untilConnected()
    assert.equal(await qemuPid(), qemu)
    assert.match(await machine.must('hostlet version'), new RegExp(`^hostlet ${nextVersion} `))
    assert.match(readFileSync(machine.path('/etc/hostlet/agent.yaml'), 'utf8'), /^accelerator: tcg/)
    await machine.must('hostlet vm reboot web-1')
  })

  it('does not start what was stopped when it is upgraded, nor with a downgrade', async () => {
    await machine.must('systemctl stop hostlet-scheduler')
    await machine.must(`${dpkg} -i /tmp/first.deb`)
    assert.equal(await machine.setting('hostlet-scheduler', 'ActiveState'), 'inactive')
    assert.equal(await machine.setting('hostlet', 'ActiveState'), 'active')
    assert.equal(existsSync(machine.path('/run/hostlet-upgrade')), false)
  })

  it('is removed: VMs run on, configuration and keys stay', async () => {
    const qemu = await qemuPid()
    await machine.must(`${dpkg} -r hostlet`)
    assert.equal(await qemuPid(), qemu)
    assert.equal((await machine.run('pgrep -u hostlet,hostlet-scheduler')).stdout, '')
    assert.ok(existsSync(machine.path('/etc/hostlet/agent.yaml')))
    assert.ok(existsSync(machine.path('/var/lib/hostlet/host-key.jwk')))
    assert.equal(existsSync(machine.path('/usr/lib/hostlet')), false)
  })

  it('is purged without a question; keys, disks and backups stay', async () => {
    const files = () =>
      machine.must(
        'find /etc/hostlet/*.jwk* /var/lib/hostlet /var/lib/hostlet-scheduler /var/lib/libvirt/images /var/backups/hostlet -type f | sort'
      )
    // As a restore on another host has it: perhaps the only copy.
    await machine.must('install -m 600 /run/recovery.jwk /etc/hostlet/recovery.jwk')
    const [qemu, before] = [await qemuPid(), await files()]
    const said = await machine.must(`${dpkg} -P hostlet </dev/null`)
    assert.equal(await qemuPid(), qemu)
    assert.equal(await files(), before)
    assert.match(said, /\/var\/lib\/hostlet stays: .*keys of the disks/)
    assert.match(said, /rm -r \/var\/lib\/hostlet-scheduler$/m)
    assert.match(said, /\/etc\/hostlet stays: it holds files that the package did not bring/)
    assert.equal(
      await machine.must('ls /etc/hostlet'),
      'recovery.jwk\nrecovery.jwk.pub\n',
      'no configuration'
    )
  })

  it('takes its host up again when it is installed anew', async () => {
    await machine.must(`${dpkg} -i /tmp/next.deb`)
    await configure()
    await machine.must('systemctl start hostlet-scheduler hostlet')
    await machine.untilConnected()
    const { vms } = JSON.parse(await machine.must('hostlet vm ls -o json'))
    assert.deepEqual(
      vms.map(({ name, state }: { name: string; state: string }) => [name, state]),
      [['web-1', 'running']]
    )
    await machine.must('hostlet vm stop web-1 --force && hostlet vm start web-1')
  })

  async function configure(): Promise<void> {
    machine.write(
      '/etc/hostlet/scheduler.yaml',
      'listen: { address: 127.0.0.1 }\nnames: [localhost, 127.0.0.1]\n'
    )
    machine.write(
      '/etc/hostlet/agent.yaml',
      'accelerator: tcg\nimages: { allowFileUrls: [/var/lib/images] }\nmetrics: { intervalMs: 2000 }\n'
    )
    machine.write(
      '/etc/hostlet/policy.yaml',
      'repositories: { local: { url: "file:///var/backups/hostlet" } }\nrecovery: [{ file: /etc/hostlet/recovery.jwk.pub }]\n'
    )
    machine.write(
      '/etc/systemd/system/hostlet.service.d/test.conf',
      '[Service]\nReadWritePaths=-/var/backups/hostlet\n'
    )
    await machine.must('install -m 644 /run/recovery.jwk.pub /etc/hostlet/recovery.jwk.pub')
    await machine.must('systemd-tmpfiles --create hostlet.conf && systemctl daemon-reload')
  }

  async function qemuPid(): Promise<string> {
    return (await machine.must('pgrep -f "^/usr/bin/qemu-system.*guest=web-1"')).trim()
  }

  async function mainPids(): Promise<string[]> {
    return await Promise.all(services.map((name) => machine.setting(name, 'MainPID')))
  }
})
