// The tutorial, as its reader does it: every block of commands, in order and as it stands there, on a bare machine with the package.

import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { buildPackage } from '../../scripts/package.ts'
import { type Block, blocksOf, missingLine } from '../support/document-blocks.ts'
import { BootedMachine, cannotBoot } from './booted/machine.ts'

const root = join(import.meta.dirname, '../..')
const guest = join(root, '.cache/guest/hostlet-guest.qcow2')
const skip =
  cannotBoot() || (existsSync(guest) ? false : 'the guest image is not built: run "sh scripts/setup.sh"')

/** All that is run otherwise than it is written, each with the reason. */
const substitutions = [
  {
    written: /wget -q -O (\S+) https:\S+/,
    run: 'cp /run/guest.qcow2 $1',
    reason: 'there is no network: the guest image of the tests'
  },
  {
    written: /ssh-keygen -q -t ed25519 .*/,
    run: 'install -D -m 644 /run/key.pub ~/.ssh/id_ed25519.pub',
    reason: 'a machine for tests need not have an SSH client'
  },
  {
    written: /--ready-port 22/,
    run: '--ready-port 80',
    reason: 'that guest serves pages, and no SSH'
  },
  {
    written: /eval "\$\(hostlet host token\)"/,
    run: 'eval "$(hostlet host token | sed "s/init/init --force --accelerator tcg/")"',
    reason: "nothing sets this machine's clock, and it may have no KVM"
  },
  {
    written: /hostlet vm audit web-1/,
    run: '{ hostlet vm audit web-1 || [ $? -eq 3 ]; }',
    reason: 'it has no AppArmor, which the audit tells'
  }
]

/** What is one shell for the reader is a process a block here: directory and variables carry on in a file. */
const shell = '/run/reader.sh'
const environment =
  'env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8'
const blockPath = '/run/block.sh'

/** Where hostlet has something, while it is there. */
const made = [
  '/etc/hostlet',
  '/etc/sysctl.d/60-hostlet.conf',
  '/etc/systemd/system/hostlet.service.d',
  '/root/.config/hostlet',
  '/srv/*',
  '/usr/bin/hostlet',
  '/usr/lib/hostlet',
  '/var/cache/hostlet',
  '/var/lib/hostlet',
  '/var/lib/hostlet-scheduler',
  '/var/lib/libvirt/images/hostlet'
]

describe('the tutorial', { skip, timeout: 600_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-tutorial-'))
  const blocks = blocksOf(join(root, 'docs/tutorial.md'), 'docs/tutorial.md')
  const used = new Set<string>()
  let machine: BootedMachine

  before(async () => {
    const file = await buildPackage({ out: directory, compression: 'none' })
    machine = await BootedMachine.boot({ bare: true })
    // A reader's home and data are not those of the machine around it; the only Node is the one that the package brings.
    await machine.must('mount -t tmpfs tmpfs /root; mount -t tmpfs tmpfs /srv; rm -f /usr/{,local/}bin/node')
    // A real machine has udev, which opens it to VMs.
    await machine.must('[ ! -e /dev/kvm ] || chmod 666 /dev/kvm')
    machine.copy(file, `/root/${basename(file)}`)
    machine.copy(guest, '/run/guest.qcow2')
    machine.write(
      '/run/key.pub',
      'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKVdh2KIzFVS1YlI2oBTHvLKhVYbLMO9jYQJzGZ0Jx reader\n'
    )
    machine.write(shell, 'cd /root\n')
  })

  after(async () => {
    await machine?.[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  })

  for (const block of blocks)
    it(`${block.where}: ${block.script.split('\n')[0]}`, async () => {
      const { status, output } = await run(block)
      assert.equal(status, 0, output)
      const missing = missingLine(block.shown, output)
      assert.equal(
        missing,
        undefined,
        `"${missing}" is shown in the document, and not to be seen in\n${output}`
      )
    })

  it('leaves nothing of hostlet, by its own last steps', async () => {
    const lists = ['list', 'net-list', 'pool-list'].map((list) => `virsh ${list} --all --name`)
    const look = [...lists, 'nft list tables', 'pgrep -u hostlet,hostlet-scheduler']
    const { stdout } = await machine.run([...look, `ls -d ${made.join(' ')} 2>/dev/null`].join('; '))
    // What other tests define on the machine around this one is seen here, too: they say so by their names.
    assert.equal(stdout.replaceAll(/^(hl-t-.*|\s*)\n/gm, ''), '')
  })

  it('needs each of the substitutions', () => {
    assert.deepEqual(
      substitutions.filter(({ reason }) => !used.has(reason)),
      []
    )
  })

  async function run(block: Block): Promise<{ status: number; output: string }> {
    let { script } = block
    for (const { written, run: instead, reason } of substitutions) {
      if (written.test(script)) used.add(reason)
      script = script.replace(written, instead)
    }
    const keep = `{ export -p; printf 'cd %q\\n' "$PWD"; } > ${shell}`
    machine.write(blockPath, `exec 2>&1 < /dev/null\n. ${shell}\nset -ea\n${script}\n${keep}\n`)
    const { status, stdout } = await machine.run(`${environment} bash --norc ${blockPath}`)
    return { status, output: stdout }
  }
})
