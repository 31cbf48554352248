// What a person on the host sees, with the units as they are shipped under a real systemd and its journal: the state of the
// agent while scheduler or libvirt are away, who may ask, and the log of one operation.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { LocalStatus } from '../../src/protocol/local.ts'
import { BootedMachine, cannotBoot } from './booted/machine.ts'

const socket = '/run/hostlet/agent.sock'

describe('a host with an agent', { skip: cannotBoot(), timeout: 240_000 }, () => {
  let machine: BootedMachine
  let host = ''

  before(async () => {
    machine = await BootedMachine.boot()
    machine.write(
      '/etc/hostlet/scheduler.yaml',
      'listen: { address: 127.0.0.1 }\nnames: [localhost, 127.0.0.1]\n'
    )
    machine.write('/etc/hostlet/agent.yaml', 'accelerator: tcg\nmetrics: { intervalMs: 1000 }\n')
    await machine.must(
      'systemd-sysusers && systemd-tmpfiles --create hostlet.conf && systemctl daemon-reload && systemctl start var-log-libvirt-qemu.mount'
    )
  })

  after(async () => {
    await machine?.[Symbol.asyncDispose]()
  })

  it('says that it is not enrolled, and what to do', async () => {
    const { status, stderr } = await machine.run('hostlet status --local')
    assert.equal(status, 7)
    assert.match(stderr, /the host is not enrolled: "hostlet enroll"/)
  })

  it('tells its state to root and to its group, and to nobody else', async () => {
    await machine.must('systemctl start hostlet-scheduler')
    await machine.join()
    await machine.must('systemctl start hostlet')
    await until((status) => status.scheduler.state === 'connected' && status.seenAt !== undefined)
    assert.equal((await machine.must(`stat -c '%a %U %G' ${socket}`)).trim(), '660 hostlet hostlet')
    // Beside its agent's socket a host that knows a scheduler is asked for itself all the same.
    const text = await machine.must('hostlet status')
    assert.match(text, /^scheduler: +connected to localhost:7443 for /m)
    assert.match(text, /^libvirt: +connected$/m)
    assert.match(
      await machine.must('hostlet status --scheduler https://localhost:7443'),
      /^hosts: +1, 1 connected/m
    )
    await machine.must(
      'useradd --no-create-home person && usermod -aG hostlet person && useradd --no-create-home other'
    )
    await machine.must('runuser -u person -- hostlet status --local')
    const refused = await machine.run('runuser -u other -- hostlet status --local')
    assert.equal(refused.status, 6)
    assert.match(refused.stderr, /root and the group hostlet.*usermod -aG hostlet/)
    host = JSON.parse(await machine.must('hostlet status -o json')).host
  })

  it('has its log read back from the journal: all of it, of one operation, and as it comes', async () => {
    await machine.must(`(hostlet logs -f -n 1 > /run/followed 2>&1 & echo $! > /run/follower)`)
    await machine.until(
      async () => (await machine.must('wc -l < /run/followed')).trim() !== '0',
      'the follower'
    )
    await machine.must(`hostlet host drain ${host} --no-wait`)
    const { operations } = JSON.parse(await machine.must('hostlet op ls -o json'))
    const [{ id }] = operations as [{ id: string }]
    await machine.must(`hostlet op wait ${id}`)
    await machine.until(
      async () => (await machine.must('cat /run/followed')).includes(`command=${id}`),
      'the follower to show the operation'
    )
    await machine.must('kill -INT $(cat /run/follower)')
    const lines = (await machine.must(`hostlet logs ${id} -o json`)).trim().split('\n')
    const events = lines.map((line) => JSON.parse(line).event)
    assert.deepEqual(events, ['command-accepted', 'operation-done'])
    const of = JSON.parse(lines[0] ?? '')
    assert.equal(of.level, 'info')
    assert.equal(of.fields.verb, 'host.drain')
    assert.ok(Date.now() - Date.parse(of.at) < 600_000, of.at)
    assert.match(await machine.must('hostlet logs'), /INFO {2}connected to scheduler {2}url=/)
    assert.match(
      await machine.must('hostlet logs --event agent-starts -n 1'),
      /INFO {2}agent starts {2}version=/
    )
    assert.equal(await machine.must('hostlet logs -p error --since 1h'), '')
    const none = await machine.run('hostlet logs no-such-vm')
    assert.match(none.stderr, /No line about no-such-vm among those of unit hostlet/)
    const other = await machine.run('runuser -u other -- hostlet logs')
    assert.ok(other.status === 6 || other.stderr !== '', `${other.status} ${other.stdout}`)
    assert.match(
      (await machine.run('hostlet logs --since yesteryear')).stderr,
      /E_BAD_REQUEST: journalctl does not take that/
    )
  })

  it('says why it is drained, and what an operation came to', async () => {
    const text = await machine.must(`hostlet why ${host} --host`)
    assert.match(text, /^Host .* is drained: it takes no new work/)
    assert.match(text, new RegExp(`hostlet host resume ${host}`))
    await machine.must(`hostlet host resume ${host}`)
    assert.match(await machine.must('hostlet why --local'), /^Host \S+ (is well|works|is in)/)
  })

  it('goes on telling while libvirt and the scheduler are away', async () => {
    await machine.must(
      'systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd hostlet-scheduler'
    )
    await until(({ scheduler, libvirt }) => scheduler.state !== 'connected' && libvirt.state === 'away')
    const text = await machine.must('hostlet status')
    assert.match(text, /^scheduler: +(away|connecting)/m)
    assert.match(text, /^libvirt: +away for /m)
    const why = await machine.run('hostlet why no-vm')
    assert.match(why.stderr, /This is what the agent of this host says/)
    assert.equal(why.status, 4)
    assert.match(
      await machine.must('hostlet why --local'),
      /does not reach its libvirt.*\n[\s\S]*systemctl status libvirtd/
    )
    await machine.must('systemctl start libvirtd.socket hostlet-scheduler')
    await until(({ scheduler, libvirt }) => scheduler.state === 'connected' && libvirt.state === 'connected')
  })

  it('is asked again after the agent was killed', async () => {
    await machine.must('systemctl kill -s KILL --kill-whom=main hostlet')
    await until((status) => status.scheduler.state === 'connected')
    assert.deepEqual(
      (await statusOf())?.conditions.filter(({ id }) => id === 'local-socket'),
      []
    )
  })

  it('says that its configuration is wrong', async () => {
    machine.write('/etc/hostlet/agent.yaml', 'acelerator: tcg\n')
    await machine.run('systemctl restart hostlet')
    const { stderr } = await machine.run('hostlet status --local')
    assert.match(stderr, /no agent runs on this host.*hostlet config check/)
  })

  async function statusOf(): Promise<LocalStatus | undefined> {
    const { status, stdout } = await machine.run('hostlet status --local -o json')
    return status === 0 ? JSON.parse(stdout) : undefined
  }

  async function until(holds: (status: LocalStatus) => boolean): Promise<void> {
    await machine.until(async () => {
      const status = await statusOf()
      return status !== undefined && holds(status)
    }, 'the state of the host')
  }
})
