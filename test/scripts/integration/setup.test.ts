// Set-up's daemons, in namespaces of their own: processes, mounts and network that the machine's libvirtd does not see.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'

const SCRIPT_TIMEOUT_MS = 120_000
const unshare = ['--mount', '--pid', '--net', '--fork', '--mount-proc', '--kill-child']
const skip =
  spawnSync('unshare', [...unshare, 'true']).status === 0 ? false : 'this machine allows no namespaces'

test('two set-ups at once start one libvirtd, which a later one finds and --stop ends', { skip }, (t) => {
  const output = runApart(t, [
    'sh scripts/setup.sh --status',
    'sh scripts/setup.sh >/run/first & sh scripts/setup.sh >/run/second; wait',
    'cat /run/first /run/second | grep -c "libvirtd started"',
    'pgrep -xc libvirtd',
    'sh scripts/setup.sh | grep -c "libvirtd started"',
    'sh scripts/setup.sh --status',
    'sh scripts/setup.sh --stop',
    'sh scripts/setup.sh --status',
    'pgrep -xc "libvirtd|virtlogd|tini"'
  ])
  const stopped = ['setup  stop      libvirtd stopped', 'setup  stop      virtlogd stopped']
  assert.deepEqual(output, ['stopped', '1', '1', '0', 'running', ...stopped, 'stopped', '0'])
})

test('a libvirtd that somebody else started is used, and not stopped', { skip }, (t) => {
  const output = runApart(t, [
    'libvirtd -d',
    'until [ "$(sh scripts/setup.sh --status)" = running ]; do sleep 0.1; done',
    'sh scripts/setup.sh | grep -c "libvirtd started"',
    'sh scripts/setup.sh --stop',
    'pgrep -xc libvirtd'
  ])
  assert.deepEqual(output, ['0', '1'])
})

test('what a killed machine left in /run does not hinder a start, and its record stops no stranger', {
  skip
}, (t) => {
  const directory = temporary(t)
  runApart(t, ['sh scripts/setup.sh', 'ls /run/libvirt/libvirt-sock', 'kill -9 -1'], directory)
  const output = runApart(
    t,
    [
      'ls /run/libvirt/libvirt-sock /run/libvirtd.pid',
      'sh scripts/setup.sh | grep -c "libvirtd started"',
      'wc -l </run/hostlet-setup/daemons',
      'sh scripts/setup.sh --status'
    ],
    directory
  )
  assert.deepEqual(output, ['/run/libvirt/libvirt-sock', '/run/libvirtd.pid', '1', '2', 'running'])
})

test('a libvirtd on which a VM is defined but none runs is stopped all the same', { skip }, (t) => {
  const output = runApart(t, [
    'sh scripts/setup.sh >/run/log',
    `printf "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os></domain>" >/run/a.xml`,
    'virsh -q -c qemu:///system define /run/a.xml >/run/log',
    'sh scripts/setup.sh --stop | head -n 1',
    'sh scripts/setup.sh --status'
  ])
  assert.deepEqual(output, ['setup  stop      libvirtd stopped', 'stopped'])
})

// libvirt's directories, /run among them, are others than the machine's; the rest of the file system is the same.
function runApart(t: TestContext, lines: readonly string[], directory = temporary(t)): string[] {
  const script = `
    mount --make-rprivate /
    [ -d ${directory}/etc ] || cp -a /etc/libvirt ${directory}/etc
    mkdir -p ${directory}/run ${directory}/lib ${directory}/log
    mount --bind ${directory}/run /run
    mount --bind ${directory}/lib /var/lib/libvirt
    mount --bind ${directory}/log /var/log/libvirt
    mount --bind ${directory}/etc /etc/libvirt
    ${lines.join('\n')}
    exit 0`
  const { stdout, signal } = spawnSync('unshare', [...unshare, 'bash', '-c', script], {
    encoding: 'utf8',
    timeout: SCRIPT_TIMEOUT_MS,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  assert.equal(signal, null, stdout)
  return stdout.trim().split('\n')
}

function temporary(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-setup-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}
