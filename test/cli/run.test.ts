// The program without a scheduler: help, usage errors, what is missing, and the exit statuses of each.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { commands } from '../../src/cli/commands.ts'
import { errorCodes } from '../../src/errors.ts'
import { hostlet } from './program.ts'

const directory = mkdtempSync('/tmp/hostlet-cli-')
after(() => rmSync(directory, { recursive: true }))
const digest = 'a'.repeat(64)
const aKey = { HOSTLET_API_KEY: `hlk_${'k'.repeat(43)}` }

function file(name: string, text: string): string {
  writeFileSync(join(directory, name), text)
  return join(directory, name)
}

describe('help', () => {
  it('lists every command and every exit status of an error', async () => {
    const { status, stdout, stderr } = await hostlet(['--help'])
    assert.equal(status, 0)
    assert.equal(stderr, '')
    for (const { words } of commands) assert.match(stdout, new RegExp(`^ {2}${words[0]} `, 'm'))
    for (const [code, { exitCode }] of Object.entries(errorCodes))
      assert.match(stdout, new RegExp(`^ +${exitCode} .*${code}`, 'm'))
  })

  it('of every command has examples', async () => {
    for (const { words } of commands) {
      const { status, stdout } = await hostlet([...words, '--help'])
      assert.equal(status, 0, words.join(' '))
      assert.match(stdout, new RegExp(`Examples:\\n {2}hostlet ${words.join(' ')}`), words.join(' '))
    }
  })

  it('of a group lists its commands', async () => {
    const { stdout } = await hostlet(['vm', '--help'])
    assert.match(stdout, / create .*provision a VM/)
  })
})

describe('usage errors', () => {
  it('exit with 2, one line and a next step', async () => {
    const { status, stdout, stderr } = await hostlet(['vm', 'creat'])
    assert.equal(status, 2)
    assert.equal(stdout, '')
    assert.match(
      stderr,
      /^error E_BAD_REQUEST: unknown command 'creat' \(did you mean "create"\?\)\nnext: .*\n$/
    )
  })

  it('name the very help to read', async () => {
    const nextOf = async (...words: string[]) => /^next: (.*)$/m.exec((await hostlet(words)).stderr)?.[1]
    assert.equal(await nextOf('vm', 'start'), 'hostlet vm start --help')
    assert.equal(await nextOf('vm', 'creat'), 'hostlet vm --help')
    assert.equal(await nextOf('vmm'), 'hostlet --help')
  })

  it('are told for unknown options, missing arguments and none at all', async () => {
    for (const words of [
      ['vm', 'ls', '--hots', 'x'],
      ['vm', 'start'],
      ['vm', 'create', 'a'],
      ['key', 'create', 'god'],
      ['vm', 'forget'],
      ['vm', 'forget', 'web-1', '--host', 'kvm-1'],
      []
    ]) {
      const { status, stderr } = await hostlet(words)
      assert.equal(status, 2, words.join(' '))
      assert.match(stderr, /^error E_BAD_REQUEST: /m)
    }
  })

  it('are JSON where JSON was asked for, however early they come', async () => {
    for (const words of [
      ['vm', 'creat', '-o', 'json'],
      ['vm', 'create', 'web-1', '--output=json'],
      ['vm', 'ls', '--hots', 'x', '--output', 'json']
    ]) {
      const { status, stdout, stderr } = await hostlet(words)
      assert.deepEqual([status, stdout], [2, ''], words.join(' '))
      const { error } = JSON.parse(stderr)
      assert.equal(error.code, 'E_BAD_REQUEST')
      assert.match(error.message, /\. See "hostlet vm.* --help"\.$/)
    }
    const text = await hostlet(['vm', 'start', '--', '-o', 'json', 'more'])
    assert.match(text.stderr, /^error E_BAD_REQUEST: /)
  })

  it('tell a mistyped option before the one that is missing for it, and all that are missing at once', async () => {
    const mistyped = await hostlet(['vm', 'create', 'web-1', '--imge', 'file:///i.qcow2'])
    assert.match(mistyped.stderr, /unknown option '--imge' \(did you mean "--image"\?\)/)
    const missing = await hostlet(['vm', 'create', 'web-1'])
    assert.match(missing.stderr, /required options '--image <url>', '--sha256 <digest>' not specified/)
    const one = await hostlet(['vm', 'create', 'web-1', '--sha256', digest])
    assert.match(one.stderr, /required option '--image <url>' not specified/)
  })

  it('never show control characters of an argument', async () => {
    const { stderr } = await hostlet(['\x1b[31mred'])
    assert.equal(stderr.includes('\x1b'), false)
  })

  it('refuse sizes, digests and files that cannot be right before asking anybody', async () => {
    const create = ['vm', 'create', 'a', '--image', 'https://x/y', '--sha256']
    const secret = file('id', '-----BEGIN OPENSSH PRIVATE KEY-----\n')
    const cases = [
      [
        ['vm', 'create', 'Web_9', ...create.slice(3), digest],
        /VM name "Web_9" does not fit: take a name of lowercase/
      ],
      [[...create, 'beef'], /--sha256 must be 64/],
      [[...create, digest, '--memory', 'much'], /"much" is not a size/],
      [[...create, digest, '--ready-timeout', '5'], /"5" is not a duration/],
      [[...create, digest, '--ready-port', '70000'], /--ready-port must be/],
      [[...create, digest, '--user-data', '/nonexistent'], /user data cannot be read \(ENOENT\)/],
      [[...create, digest, '--ssh-key-file', secret], /private key/],
      [[...create, digest, '--no-seed', '--hostname', 'a'], /--no-seed leaves out/]
    ] as const
    for (const [words, expected] of cases) {
      const { status, stderr } = await hostlet(words)
      assert.equal(status, 2, stderr)
      assert.match(stderr, expected)
    }
  })

  it('prints the request where it is asked to, and sends nothing', async () => {
    const keys = file('id.pub', '# mine\nssh-ed25519 AAAA me\n\nssh-rsa BBBB you\n')
    const words = [
      'vm',
      'create',
      'web-1',
      '--image',
      'file:///i.qcow2',
      '--sha256',
      `sha256:${digest.toUpperCase()}`
    ]
    const more = [
      '--memory',
      '1GiB',
      '--disk',
      '2GiB',
      '--data-disk',
      '3G',
      '--ready-http',
      '80/up',
      '--ssh-key-file',
      keys
    ]
    const { status, stdout } = await hostlet([...words, ...more, '--print-request'])
    assert.equal(status, 0)
    assert.deepEqual(JSON.parse(stdout), {
      specification: {
        name: 'web-1',
        profile: 'starter',
        image: { url: 'file:///i.qcow2', sha256: digest, format: 'qcow2' },
        cpus: 1,
        memoryBytes: 1024 ** 3,
        rootDiskBytes: 2 * 1024 ** 3,
        dataDiskBytes: 3 * 1024 ** 3,
        seed: { sshAuthorizedKeys: ['ssh-ed25519 AAAA me', 'ssh-rsa BBBB you'] },
        ready: { http: { port: 80, path: '/up' } }
      }
    })
  })
})

describe('finding the scheduler', () => {
  it('says what is missing and where it may be said', async () => {
    const { status, stderr } = await hostlet(['vm', 'ls'])
    assert.equal(status, 2)
    assert.match(stderr, /scheduler’s address\. Give --scheduler .*HOSTLET_SCHEDULER.*cli\.yaml/)
    const keyless = await hostlet(['vm', 'ls', '--scheduler', 'https://127.0.0.1:1'])
    assert.match(keyless.stderr, /an API key\. Give --api-key-file/)
  })

  it('refuses addresses without TLS and keys that are none', async () => {
    const plain = await hostlet(['vm', 'ls', '--scheduler', 'http://127.0.0.1:1'], aKey)
    assert.match(plain.stderr, /is not an address of a scheduler/)
    const wrong = await hostlet(['vm', 'ls', '--scheduler', 'https://127.0.0.1:1'], {
      HOSTLET_API_KEY: 'hunter2'
    })
    assert.match(wrong.stderr, /holds no API key/)
    assert.equal(wrong.stderr.includes('hunter2'), false)
  })

  it('reads the user’s file, and says where it is wrong', async () => {
    mkdirSync(join(directory, 'hostlet'))
    const key = file('cli.key', aKey.HOSTLET_API_KEY)
    file('hostlet/cli.yaml', `scheduler: https://127.0.0.1:1\napiKeyFile: ${key}\n`)
    const reached = await hostlet(['vm', 'ls'], { XDG_CONFIG_HOME: directory })
    assert.equal(reached.status, 7)
    file('hostlet/cli.yaml', 'schedular: https://127.0.0.1:1\n')
    const { status, stderr } = await hostlet(['vm', 'ls'], { XDG_CONFIG_HOME: directory })
    assert.equal(status, 2)
    assert.match(stderr, /cli\.yaml:1:1: .*"schedular".*did you mean "scheduler"/)
  })

  it('exits with 7 where nobody listens', async () => {
    const { status, stderr } = await hostlet(['vm', 'ls', '--scheduler', 'https://127.0.0.1:1'], aKey)
    assert.equal(status, 7)
    assert.match(
      stderr,
      /^error E_UNAVAILABLE: no scheduler listens at https:\/\/127\.0\.0\.1:1\. Is it running.*\n$/
    )
  })

  it('tells errors as JSON where results would be', async () => {
    const { status, stdout, stderr } = await hostlet(
      ['vm', 'ls', '-o', 'json', '--scheduler', 'https://127.0.0.1:1'],
      aKey
    )
    assert.equal(status, 7)
    assert.equal(stdout, '')
    assert.equal(JSON.parse(stderr).error.code, 'E_UNAVAILABLE')
  })

  it('recognises a server that speaks no TLS', async () => {
    const server = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')).listen(
      0,
      '127.0.0.1'
    )
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address() as { port: number }
    try {
      const { status, stderr } = await hostlet(['vm', 'ls', '--scheduler', `https://127.0.0.1:${port}`], aKey)
      assert.equal(status, 1, stderr)
      assert.match(stderr, /E_PROTOCOL: .*does not speak TLS/)
    } finally {
      server.close()
    }
  })

  it('refuses names that would lead to another path', async () => {
    const { status, stderr } = await hostlet(['vm', 'show', '..', '--scheduler', 'https://127.0.0.1:1'], aKey)
    assert.equal(status, 2)
    assert.match(stderr, /"\.\." is not a name/)
  })
})

describe('configuration', () => {
  it('is checked for agent and scheduler, told apart by its keys', async () => {
    const agent = file('a.yaml', 'accelerator: tcg\n')
    const scheduler = file('s.yaml', 'listen:\n  port: 7443\n')
    assert.match((await hostlet(['config', 'check', agent])).stdout, /valid configuration of the agent/)
    assert.match(
      (await hostlet(['config', 'check', scheduler])).stdout,
      /valid configuration of the scheduler/
    )
    const shown = JSON.parse((await hostlet(['config', 'check', agent, '-o', 'json'])).stdout)
    assert.equal(shown.kind, 'agent')
    assert.equal(shown.config.accelerator, 'tcg')
    assert.equal(shown.config.pool.name, 'hostlet')
  })

  it('ends with 78 and every fault on a line of its own when it is bad', async () => {
    const bad = file('bad.yaml', 'acelerator: tcg\nlog:\n  level: loud\n')
    for (const words of [
      ['config', 'check', bad],
      ['agent', '--config', bad]
    ]) {
      const { status, stderr } = await hostlet(words)
      assert.equal(status, 78, words.join(' '))
      assert.match(stderr, /bad\.yaml:1:1: .*did you mean "accelerator"/)
      assert.match(stderr, /bad\.yaml:3:\d+: /)
    }
  })

  it('ends with 78 when agent or scheduler have none, and with 4 when there is none to check', async () => {
    for (const daemon of ['agent', 'scheduler'])
      assert.equal((await hostlet([daemon, '--config', '/nonexistent/x.yaml'])).status, 78)
    assert.equal((await hostlet(['config', 'check', '/nonexistent/x.yaml'])).status, 4)
  })
})

describe('enroll', () => {
  it('says what is missing', async () => {
    const words = ['enroll', '--scheduler', 'https://127.0.0.1:1', '--ca-hash', `sha256:${digest}`]
    const { status, stderr } = await hostlet(words)
    assert.equal(status, 2)
    assert.match(stderr, /no host joins without a token/)
  })
})
