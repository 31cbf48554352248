// The units as they are shipped, under a real systemd and with a real libvirtd: everything works within their restrictions,
// nothing outside them, and a VM outlives whatever happens to its agent.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { BootedMachine, cannotBoot } from './booted/machine.ts'

const guest = join(import.meta.dirname, '../../.cache/guest/hostlet-guest.qcow2')
const insideGuest = '/usr/lib/hostlet/.cache/guest/hostlet-guest.qcow2'
const skip =
  cannotBoot() || (existsSync(guest) ? false : 'the guest image is not built: run "sh scripts/setup.sh"')

/** What systemd may rate them at most: each point that remains is explained in docs/security.md. */
const exposureMax = 1.8

describe('the units under systemd', { skip, timeout: 840_000 }, () => {
  let machine: BootedMachine

  before(async () => {
    machine = await BootedMachine.boot()
    machine.write(
      '/etc/hostlet/scheduler.yaml',
      'listen: { address: 127.0.0.1 }\nnames: [localhost, 127.0.0.1]\n'
    )
    machine.write(
      '/etc/hostlet/agent.yaml',
      'accelerator: tcg\nimages: { allowFileUrls: [/usr/lib/hostlet/.cache] }\nmetrics: { intervalMs: 2000 }\n'
    )
    machine.write(
      '/etc/systemd/system/hostlet.service.d/test.conf',
      '[Service]\n# Soon enough for a test to wait for it.\nWatchdogSec=8\nReadWritePaths=-/var/backups/hostlet\n'
    )
    // The sockets get their owners when they are made.
    await machine.must(
      'systemd-sysusers && systemd-tmpfiles --create hostlet.conf && systemctl daemon-reload'
    )
    await machine.must('systemctl start var-log-libvirt-qemu.mount')
    await machine.must('install -d -o hostlet -g hostlet -m 700 /var/backups/hostlet')
  })

  after(async () => {
    await machine?.[Symbol.asyncDispose]()
  })

  it('start, and are well', async () => {
    await machine.must('systemctl start hostlet-scheduler')
    assert.equal(await machine.setting('hostlet-scheduler', 'ActiveState'), 'active')
    assert.match(await machine.join(), /This host has joined/)
    await machine.must('systemctl start hostlet')
    assert.equal(await machine.setting('hostlet', 'ActiveState'), 'active')
    await machine.untilConnected()
    assert.deepEqual(await machine.warnings(), [])
  })

  it('are rated as promised', async () => {
    const text = await machine.must('systemd-analyze security --no-pager hostlet hostlet-scheduler')
    const rated = [...text.matchAll(/^(hostlet\S*)\s+([\d.]+)/gm)].map(([, unit, points]) => ({
      unit,
      points: Number(points)
    }))
    assert.deepEqual(rated.map(({ unit }) => unit).sort(), ['hostlet-scheduler.service', 'hostlet.service'])
    assert.deepEqual(
      rated.filter(({ points }) => points > exposureMax),
      []
    )
  })

  it('leave the agent one capability, no way to another, and the groups that it needs', async () => {
    const status = readFileSync(machine.path(`/proc/${await mainPid()}/status`), 'utf8')
    const line = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1]?.trim()
    const capNetAdmin = (1n << 12n).toString(16).padStart(16, '0')
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
      assert.equal(line(set), capNetAdmin, set)
    assert.equal(line('NoNewPrivs'), '1')
    assert.equal(line('Seccomp'), '2')
    const groups = await machine.must('getent group hostlet libvirt libvirt-qemu | cut -d: -f3')
    assert.deepEqual(line('Groups')?.split(' ').sort(), groups.trim().split('\n').sort())
  })

  it('keep from whoever gets hold of the agent what it does not need', async () => {
    const attempts = {
      'write to /etc': 'touch /etc/hostlet/x',
      'write to /usr': 'touch /usr/bin/x',
      'read root’s home': 'ls /root',
      'read the keys of the scheduler': 'cat /var/lib/hostlet-scheduler/admin.key',
      'open a disk': 'ls /dev/vda /dev/sda',
      'open KVM': 'cat < /dev/kvm',
      'become root': 'test "$(setpriv --reuid 0 id -u)" = 0',
      mount: 'mount -t tmpfs tmpfs /tmp',
      'make a user namespace': 'unshare --user true',
      'load a module': 'modprobe dummy',
      'set the clock': 'date -s 2020-01-01',
      'set a kernel parameter': 'echo 1 > /proc/sys/kernel/sysrq',
      'change its control group': 'mkdir /sys/fs/cgroup/systemd/x',
      'look into another process': 'timeout 2 strace -o /dev/null -p 1; test $? -eq 124',
      'send raw packets': 'ping -c 1 127.0.0.1',
      listen: 'nc -l -p 8099 & sleep 1; kill $! && false',
      'reach a link-local address': 'timeout 3 bash -c "exec 3<>/dev/tcp/169.254.169.254/80"'
    }
    const controls = {
      'write its state': 'touch /var/lib/hostlet/x && rm /var/lib/hostlet/x',
      'set rules': 'nft list tables',
      'have qemu-nbd end with it': 'setpriv --pdeathsig KILL qemu-nbd --version'
    }
    const script = [...Object.entries(attempts), ...Object.entries(controls)].map(
      ([what, command]) => `if ( ${command} ) >/dev/null 2>&1; then echo "done: ${what}"; fi`
    )
    machine.write('/run/probe.sh', script.join('\n'))
    machine.write(
      '/run/systemd/system/probe.service',
      readFileSync(machine.path('/usr/lib/systemd/system/hostlet.service'), 'utf8')
        .replace(/^ExecStart=.*/m, 'ExecStart=/bin/bash /run/probe.sh')
        .replace(/^Type=.*/m, 'Type=oneshot')
        .replace(
          /^(Restart|RestartSec|WatchdogSec|RuntimeDirectory\w*|CacheDirectory\w*|StateDirectory\w*)=.*/gm,
          ''
        )
        .replace(
          /^\[Service\]/m,
          '[Service]\nReadWritePaths=/var/lib/hostlet\nStandardOutput=file:/run/probe.out'
        )
    )
    await machine.must(
      'ip link set lo up; ip addr add 169.254.169.254/32 dev lo; systemctl daemon-reload; systemctl start probe'
    )
    const got = readFileSync(machine.path('/run/probe.out'), 'utf8').trim().split('\n').sort()
    assert.deepEqual(
      got,
      Object.keys(controls)
        .map((what) => `done: ${what}`)
        .sort()
    )
    // Without the unit's restrictions root gets most of it: the attempts are real ones.
    const { stdout } = await machine.run(
      `rm -f /usr/bin/x; ${script.filter((line) => !/clock|kernel parameter|module|disk/.test(line)).join('\n')}; rm -f /usr/bin/x`
    )
    assert.ok(stdout.split('\n').length > 8, stdout)
  })

  it('let it do its work: a VM with an encrypted disk, isolated, backed up', async () => {
    const digest = readFileSync(`${guest}.sha256`, 'utf8').slice(0, 64)
    await machine.must(
      `hostlet vm create web-1 --image file://${insideGuest} --sha256 ${digest} --cpus 1 --memory 256M --disk 1G`
    )
    const { items } = JSON.parse(await machine.must('hostlet vm audit web-1 -o json || true'))
    const faults = items
      .filter(({ answer }: { answer: string }) => answer !== 'yes')
      .map(({ id }: { id: string }) => id)
    assert.deepEqual(faults, existsSync('/sys/kernel/security/apparmor') ? [] : ['confinement'])

    await machine.must(
      'hostlet backup keygen --out /run/recovery.jwk && install -m 644 /run/recovery.jwk.pub /etc/hostlet/recovery.jwk.pub'
    )
    machine.write(
      '/etc/hostlet/policy.yaml',
      'repositories: { local: { url: "file:///var/backups/hostlet" } }\nrecovery: [{ file: /etc/hostlet/recovery.jwk.pub }]\n'
    )
    await machine.must('systemd-tmpfiles --create hostlet.conf; systemctl restart hostlet')
    await machine.untilConnected()
    const { operation } = JSON.parse(await machine.must('hostlet vm backup web-1 --target local -o json'))
    await machine.must(`hostlet backup verify ${operation.value.record.snapshot}`)
    assert.deepEqual(await machine.warnings(), [])
  })

  it('leave the VM alone whatever becomes of the agent', async () => {
    const qemu = (await machine.must('pgrep -f "^/usr/bin/qemu-system.*guest=web-1"')).trim()
    await machine.must('systemctl restart hostlet')
    const killed = await mainPid()
    await machine.must(`kill -9 ${killed}`)
    await machine.until(
      async () => ![killed, '0'].includes(await mainPid()),
      'systemd to start the agent anew'
    )
    await machine.untilConnected()
    const hung = await mainPid()
    await machine.must(`kill -STOP ${hung}`)
    await machine.until(
      async () => ![hung, '0'].includes(await mainPid()),
      'the watchdog to replace the agent that hangs'
    )
    await machine.untilConnected()
    await machine.must('systemctl restart libvirtd')
    await machine.untilConnected()
    assert.equal((await machine.must('pgrep -f "^/usr/bin/qemu-system.*guest=web-1"')).trim(), qemu)
    const { vms } = JSON.parse(await machine.must('hostlet vm ls -o json'))
    assert.deepEqual(
      vms.map(({ name, state }: { name: string; state: string }) => [name, state]),
      [['web-1', 'running']]
    )
  })

  it('let it remove the VM with all that it had', async () => {
    await machine.must('hostlet vm rm web-1 --now --yes')
    const left = await machine.must(
      'virsh list --all --name; virsh secret-list | tail -n +3; ls /var/log/libvirt/qemu; find /var/lib/hostlet/keys /run/hostlet -name "*.jwe" -o -name "*web-1*"'
    )
    assert.doesNotMatch(left, /web-1/)
    assert.equal((await machine.run('pgrep qemu-system')).stdout, '')
  })

  async function mainPid(): Promise<string> {
    return await machine.setting('hostlet', 'MainPID')
  }
})
