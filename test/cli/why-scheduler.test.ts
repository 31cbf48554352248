// hostlet why, as the scheduler knows it: what is delivered, what the host said that it waits for, and a host that is away.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { TestFleet } from './fleet.ts'

const digest = 'a'.repeat(64)

describe('hostlet why, asked of the scheduler', { timeout: 120_000 }, () => {
  let fleet: TestFleet
  let id = ''

  before(async () => {
    fleet = await TestFleet.start()
  })
  after(async () => await fleet[Symbol.asyncDispose]())

  const why = async (...words: string[]) => {
    const ended = await fleet.hostlet('why', ...words)
    assert.equal(ended.stderr, '')
    return ended.stdout
  }

  it('says that a command is sent, and not acknowledged yet', async () => {
    const image = ['--image', 'https://images.example.org/a.qcow2', '--sha256', digest]
    const begun = await fleet.hostlet('vm', 'create', 'web-1', ...image, '--no-wait', '-o', 'json')
    id = JSON.parse(begun.stdout).operation.id
    await fleet.agent.nextCommand()
    assert.match(
      await why(id),
      /^vm\.provision of VM web-1 was sent to host kvm-1, which has not acknowledged it yet\./
    )
    assert.match(await why('web-1'), /^VM web-1 is pending: host kvm-1 has not reported it yet/)
  })

  it('says how the host was chosen, of the operation and of its VM', async () => {
    for (const subject of [id, 'web-1']) {
      const text = await why(subject)
      assert.match(text, /^ {2}- host kvm-1 was chosen: there was no other$/m)
      assert.match(text, new RegExp(`^ {2}hostlet op placement ${id} `, 'm'))
    }
  })

  it('says what it waits for on its host, and who has that', async () => {
    fleet.agent.acknowledge(id)
    const holder = '6f1c0b1e-5f0e-4b5c-9d6e-0a4c1f0f7a11'
    const wait = {
      kind: 'lock',
      since: Date.now(),
      what: 'VM web-1',
      holder,
      holderVerb: 'vm.backup',
      ahead: 1
    } as const
    fleet.agent.heartbeat({ operationsRunning: 1, waits: [{ command: id, wait }] })
    await fleet.agent.sync()
    const text = await why(id)
    assert.match(text, /^vm\.provision of VM web-1 waits for VM web-1, which vm\.backup 6f1c0b1e\S+ has\./)
    assert.match(text, /1 other operation comes before it/)
    assert.match(text, new RegExp(`next:\n  hostlet why ${holder}\n`))
    const { operation } = JSON.parse((await fleet.hostlet('op', 'show', id, '-o', 'json')).stdout)
    assert.deepEqual(operation.wait, wait)
    assert.match(operation.next, /^Waits for VM web-1 on its host\. Follow it with/)
    assert.match(
      await why('kvm-1'),
      new RegExp(`vm\\.provision of web-1 \\(${id}\\): queued, waits for VM web-1`)
    )
  })

  it('forgets that once it has begun', async () => {
    fleet.agent.heartbeat({ operationsRunning: 1 })
    fleet.agent.send({
      type: 'progress',
      command: id,
      at: Date.now(),
      step: 'fetch image',
      stepIndex: 0,
      steps: 2
    })
    await fleet.agent.sync()
    assert.match(await why(id), /^vm\.provision of VM web-1 is under way\.\n {2}- step 1\/2 fetch image/)
  })

  it('says what failed, and what to do', async () => {
    fleet.agent.fail(id, { code: 'E_CORRUPT', message: 'the image is not what its digest says.' })
    await fleet.agent.sync()
    const text = await why('web-1')
    assert.match(text, /^There is no VM web-1\.\n/)
    assert.match(text, /! vm\.provision \(\S+\) failed: E_CORRUPT: the image is not what/)
    assert.match(await why(id, '-o', 'json'), /"state": "failed"/)
  })

  it('says since when a host is away', async () => {
    fleet.agent.hangUp()
    const isAway = async () => (await fleet.hostlet('host', 'ls')).stdout.includes(' away ')
    while (!(await isAway()));
    assert.match(
      await why('kvm-1'),
      /^Host kvm-1 is away: .*\n[\s\S]*next:\n {2}hostlet status {3}on the host/
    )
    assert.match(await why('kvm-1', '--host', '-o', 'json'), /"kind": "host"/)
  })

  it('names nothing that is not there', async () => {
    const unknown = await fleet.hostlet('why', 'web-9')
    assert.equal(unknown.status, 4)
    assert.match(unknown.stderr, /there is no VM and no host "web-9"/)
    const nothing = await fleet.hostlet('why')
    assert.equal(nothing.status, 2)
    assert.match(nothing.stderr, /say of what/)
  })
})
