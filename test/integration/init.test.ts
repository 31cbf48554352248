// "hostlet init" under a real systemd, with a real libvirtd: a machine becomes scheduler and host by two lines, and stays so.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { BootedMachine, cannotBoot } from './booted/machine.ts'

describe('hostlet init', { skip: cannotBoot(), timeout: 600_000 }, () => {
  let machine: BootedMachine
  /** What a person's shell has, and no more; home is the machine's own. */
  const shell = 'unset HOSTLET_SCHEDULER HOSTLET_API_KEY_FILE HOSTLET_CA_FILE; export HOME=/run/home;'
  const run = (script: string) => machine.run(`${shell} ${script}`)
  const must = (script: string) => machine.must(`${shell} ${script}`)

  before(async () => {
    machine = await BootedMachine.boot()
  })

  after(async () => {
    await machine?.[Symbol.asyncDispose]()
  })

  it('makes the scheduler, and tells the command line where it is', async () => {
    const { status, stdout, stderr } = await run(
      'hostlet init --scheduler-here --name localhost --name 127.0.0.1'
    )
    assert.equal(status, 0, stderr)
    assert.match(stdout, /export HOSTLET_SCHEDULER=https:\/\/localhost:7443 HOSTLET_CA_FILE=/)
    assert.equal(await machine.setting('hostlet-scheduler', 'ActiveState'), 'active')
    assert.equal(await machine.setting('hostlet-scheduler', 'UnitFileState'), 'enabled')
    const config = readFileSync(machine.path('/etc/hostlet/scheduler.yaml'), 'utf8')
    assert.match(config, /# Names and addresses by which hosts and people reach this scheduler/)
    // Without options and variables: by what it wrote.
    assert.match(await must('hostlet host ls 2>&1'), /No host has joined yet/)
    assert.match(await must('hostlet init --scheduler-here'), /^Nothing to do/)
  })

  it('shows what it would do, and does nothing, with --dry-run', async () => {
    const { status, stderr } = await run('hostlet init --dry-run --force --subnet 10.91.0.0/16')
    assert.equal(status, 2, stderr)
    assert.match(stderr, /Nothing was changed\. Without --dry-run this is done with a token/)
    assert.match(stderr, /- write \/etc\/hostlet\/agent.yaml/)
    assert.match(stderr, /profiles.starter.subnet: 10.83.0.0\/20 -> 10.91.0.0\/20/)
    assert.equal(
      (await run('test -e /etc/hostlet/agent.yaml || test -e /var/lib/hostlet/identity.json')).status,
      1
    )
  })

  it('stops at what would keep the host from working, having changed nothing', async () => {
    const line = (await must('hostlet host token 2>/dev/null')).trim()
    machine.write('/etc/hostlet/policy.yaml', 'repositries: {}\n')
    const { status, stderr } = await run(line)
    const dry = await run('hostlet init --dry-run')
    await must('rm /etc/hostlet/policy.yaml')
    assert.equal(status, 3, stderr)
    assert.match(stderr, /FAILED {3}policy of the host .*repositries/)
    assert.match(stderr, /Nothing was changed: \d+ checks? failed/)
    assert.equal((await run('test -e /etc/hostlet/agent.yaml')).status, 1)
    assert.equal(dry.status, 1, dry.stderr)
    assert.match(dry.stderr, /It would stop here: \d+ checks? failed/)
  })

  it('makes the host by the line that "hostlet host token" prints, until the scheduler has it', async () => {
    machine.write('/etc/hostlet/agent.yaml', '# Ours.\naccelerator: tcg # no KVM here\n')
    const line = (await must('hostlet host token 2>/dev/null')).trim()
    assert.match(line, /^hostlet init --token-file - <<< hlj_[\w-]+$/)
    const { status, stdout, stderr } = await run(
      line.replace('hostlet init', 'hostlet init --force --ports 21000-21999')
    )
    assert.equal(status, 0, stderr)
    assert.match(stdout, /^This machine is host \S+, and the scheduler has it/)
    const { hosts } = JSON.parse(await must('hostlet host ls -o json'))
    assert.deepEqual(
      hosts.map(({ state }: { state: string }) => state),
      ['connected']
    )
    assert.equal(await machine.setting('hostlet', 'UnitFileState'), 'enabled')
    const config = readFileSync(machine.path('/etc/hostlet/agent.yaml'), 'utf8')
    assert.match(config, /^# Ours\.\naccelerator: tcg # no KVM here\n/)
    assert.match(config, /first: 21000/)
    const kept = readdirSync(machine.path('/etc/hostlet')).filter((name) => name.endsWith('.bak'))
    assert.equal(kept.length, 1, 'what was there is kept')
    assert.equal((await must('stat -c "%U %a" /var/lib/hostlet/identity.json')).trim(), 'hostlet 600')
    assert.equal((await must('cat /proc/sys/net/ipv4/ip_forward')).trim(), '1')
    assert.match(await must('findmnt -n -o FSTYPE /var/log/libvirt/qemu'), /tmpfs/)
  })

  it('has nothing to do the second time, and takes up a change', async () => {
    const { status, stdout, stderr } = await run('hostlet init --force --yes')
    assert.equal(status, 0, stderr)
    assert.match(stdout, /^Nothing to do: this machine is host /)
    const before = await machine.setting('hostlet', 'MainPID')
    const changed = await run('hostlet init --force --yes --reserve-memory 2GiB')
    assert.equal(changed.status, 0, changed.stderr)
    assert.notEqual(await machine.setting('hostlet', 'MainPID'), before, 'started anew with it')
    assert.match(
      await must('hostlet doctor -v || true'),
      /ok +the scheduler answers +https:\/\/localhost:7443/
    )
  })

  it('refuses a token of another scheduler, a damaged one, and none', async () => {
    const line = (await must('hostlet host token 2>/dev/null')).trim()
    const [, word = ''] = line.split('<<< ')
    const token = JSON.parse(Buffer.from(word.slice(4), 'base64url').toString())
    const other = { ...token, caHash: `sha256:${'0'.repeat(64)}` }
    const foreign = await run(
      `hostlet init --token-file - <<< hlj_${Buffer.from(JSON.stringify(other)).toString('base64url')}`
    )
    assert.match(foreign.stderr, /E_CONFLICT: this machine is host \S+ of another scheduler/)
    const damaged = await run(`hostlet init --token-file - <<< ${word.slice(0, 100)}`)
    assert.match(damaged.stderr, /E_BAD_REQUEST: the join token is damaged/)
    const none = await run(
      'mv /var/lib/hostlet/identity.json /run/; hostlet init --yes; mv /run/identity.json /var/lib/hostlet/'
    )
    assert.match(none.stderr, /E_BAD_REQUEST: this machine has joined no scheduler/)
  })

  it('joins anew with --rejoin, as another host', async () => {
    const line = (await must('hostlet host token 2>/dev/null')).trim()
    const { status, stdout, stderr } = await run(
      line.replace('hostlet init', 'hostlet init --force --rejoin')
    )
    assert.equal(status, 0, stderr)
    const { hosts } = JSON.parse(await must('hostlet host ls -o json'))
    const connected = hosts.filter(({ state }: { state: string }) => state === 'connected')
    assert.deepEqual([hosts.length, connected.length], [2, 1])
    assert.ok(stdout.startsWith(`This machine is host ${connected[0].id},`), stdout)
  })

  it('says what to run where systemd does not', async () => {
    const script =
      'mount -t tmpfs tmpfs /run/systemd && mount -t tmpfs -o mode=700 tmpfs /var/lib/hostlet && chown hostlet: /var/lib/hostlet'
    const line = (await must('hostlet host token 2>/dev/null'))
      .trim()
      .replace('hostlet init', 'hostlet init --force')
    machine.write('/run/bare.sh', `${script} && ${line}\n`)
    const { status, stdout, stderr } = await run('unshare --mount bash /run/bare.sh')
    assert.equal(status, 0, stderr)
    assert.match(
      stdout,
      /systemd does not run here; start the agent .*\n {2}runuser -u hostlet -- hostlet agent --config/
    )
  })
})
