// Commands straight at a repository: what a person has after a disaster is a key, the backups, and this program.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { blockBytes } from '../../src/backup/disk.ts'
import { openStore } from '../../src/backup/repository/open-store.ts'
import { ensureRepository } from '../../src/backup/repository/repository.ts'
import type { ObjectStore } from '../../src/backup/repository/store.ts'
import type { Vault } from '../../src/backup/vault/vault.ts'
import { backUpDisks } from '../../src/backup/write/back-up.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { bodyOf } from '../backup/plain-writer.ts'
import { type Bench, createBench } from '../backup/vault-bench.ts'
import { MemoryDisk, MemorySource } from '../backup/write/memory-source.ts'
import { environment, hostlet, mainPath } from './program.ts'

const { signal } = new AbortController()
const base = mkdtempSync(join(tmpdir(), 'hostlet-cli-backup-'))
const repository = join(base, 'repository')
const url = `file://${repository}`
/** Not a whole number of blocks, as disks may be. */
const diskBytes = 40 * blockBytes + 512

let bench: Bench
let store: ObjectStore
let vault: Vault
/** What the disk held at each snapshot. */
const held = new Map<string, Buffer>()
const ids: string[] = []

before(async () => {
  mkdirSync(repository)
  bench = await createBench()
  store = await openStore({ url }, { clock: systemClock, signal })
  await ensureRepository(store, { signal })
  vault = await bench.open({ store })
  const disk = new MemoryDisk(diskBytes)
  disk.write(0, randomBytes(3 * blockBytes))
  disk.write(30 * blockBytes, Buffer.alloc(blockBytes, 'plain words '))
  await take(disk)
  disk.write(blockBytes + 7, randomBytes(100))
  disk.write(diskBytes - 512, randomBytes(512))
  await take(disk)
  writeFileSync(join(base, 'key.jwk'), JSON.stringify(bench.key))
  writeFileSync(join(base, 'ca.pem'), bench.authority.certificate)
})
after(async () => {
  await store.close()
  rmSync(base, { recursive: true, force: true })
})

async function take(disk: MemoryDisk): Promise<void> {
  const newest = await vault.newest({ signal })
  const [parent] = newest?.body.disks ?? []
  const result = await backUpDisks({
    ...{
      store,
      vm: vault.vm,
      vmKey: vault.vmKey,
      compressionLevel: 1,
      workers: 1,
      clock: systemClock,
      signal
    },
    disks: [
      {
        role: 'root',
        source: new MemorySource(disk),
        parent: parent?.root ?? null,
        tracking: newest === undefined ? 'all' : 'changed'
      }
    ],
    onProgress: () => undefined
  })
  disk.clean()
  const id = randomUUID()
  const sequence = ids.length + 1
  const previous = ids.at(-1) ?? null
  const body = bodyOf({
    vm: vault.vm,
    sequence,
    disks: result.disks,
    previous,
    at: 1_700_000_000_000 + sequence
  })
  await vault.commit({ snapshot: id, body, signer: bench.signer, recipients: [bench.key], signal })
  ids.push(id)
  held.set(id, Buffer.from(disk.bytes))
}

const at = (...words: readonly string[]) => [
  'backup',
  ...words,
  '--repository',
  url,
  '--key',
  join(base, 'key.jwk')
]
const [first, second] = [() => ids[0] ?? '', () => ids[1] ?? '']

describe('a repository without a scheduler', { timeout: 120_000 }, () => {
  it('lists its backups, the newest first, in both forms', async () => {
    const { status, stdout, stderr } = await hostlet(at('ls'))
    assert.equal(status, 0, stderr)
    const [title, newest, oldest] = stdout.split('\n')
    assert.match(title ?? '', /^TIME +BACKUP +VM +HOST +KIND +CONSISTENCY +SIZE +STORED +TOOK$/)
    assert.match(newest ?? '', new RegExp(`${second()} +web-1 +host-1 +incremental +crash`))
    assert.match(oldest ?? '', new RegExp(`${first()} +web-1 +host-1 +full`))
    const json = await hostlet(
      at('ls', '--vm', 'web-1', '--limit', '1', '-o', 'json', '--ca', join(base, 'ca.pem'))
    )
    const { backups, damaged, more } = JSON.parse(json.stdout)
    assert.deepEqual(
      [backups.length, backups[0].snapshot, backups[0].signer, more],
      [1, second(), 'trusted', true]
    )
    assert.deepEqual(damaged, [])
  })

  it('shows one, and says that nobody checked its signer without a CA', async () => {
    const shown = await hostlet(at('show', 'latest', '--vm', vault.vm))
    assert.match(shown.stdout, new RegExp(`^backup: +${second()}$`, 'm'))
    assert.match(shown.stdout, /^signed by: +not checked: give --ca/m)
    const json = await hostlet(at('show', first(), '-o', 'json'))
    assert.deepEqual(JSON.parse(json.stdout).backup.specification, { cpus: 2 })
  })

  it('verifies every block, and tells a repository that was rolled back', async () => {
    const good = await hostlet(at('verify', first(), '--ca', join(base, 'ca.pem'), '--expect', second()))
    assert.equal(good.status, 0, good.stderr)
    assert.match(good.stdout, /is good: 4 blocks read\. A host of the fleet signed it\.\n$/)
    const unsure = await hostlet(at('verify', 'latest', '--vm', 'web-1', '-o', 'json'))
    assert.equal(JSON.parse(unsure.stdout).freshness, 'unverifiable')
    const rolledBack = await hostlet(at('verify', first(), '--expect', randomUUID()))
    assert.equal(rolledBack.status, 1)
    assert.match(rolledBack.stderr, /E_CORRUPT: the repository was rolled back/)
  })

  it('gives back each disk byte for byte, and touches no file that exists', async () => {
    for (const id of ids) {
      const path = join(base, `${id}.raw`)
      const { status, stdout, stderr } = await hostlet(at('export', id, '--format', 'raw', '--to', path))
      assert.equal(status, 0, stderr)
      assert.match(stdout, /The root disk of VM web-1 as of 2023-11-14 .* is in /)
      assert.equal(readFileSync(path).equals(held.get(id) ?? Buffer.alloc(0)), true)
      assert.equal(statSync(path).mode & 0o077, 0)
    }
    const path = join(base, `${first()}.raw`)
    const again = await hostlet(at('export', second(), '--format', 'raw', '--to', path))
    assert.equal(again.status, 5)
    assert.equal(readFileSync(path).equals(held.get(first()) ?? Buffer.alloc(0)), true)
  })

  it('takes no --dry-run, which only a host could answer, and then writes nothing', async () => {
    const path = join(base, 'dry.qcow2')
    for (const words of [
      ['export', first(), '--to', path],
      ['verify', first()]
    ]) {
      const { status, stderr } = await hostlet(at(...words, '--dry-run'))
      assert.equal(status, 1, stderr)
      assert.match(stderr, /E_UNSUPPORTED: --dry-run asks a host/)
    }
    assert.equal(existsSync(path), false)
  })

  it('leaves nothing of an export that Ctrl-C ended', async () => {
    const path = join(base, 'half.qcow2')
    const child = spawn(process.execPath, [mainPath, ...at('export', first(), '--to', path)], {
      env: environment(),
      stdio: 'ignore'
    })
    const closed = once(child, 'close')
    while (!existsSync(path) && child.exitCode === null) await new Promise((resolve) => setImmediate(resolve))
    child.kill('SIGINT')
    await closed
    // Where it was done before the signal came, the file is whole; half of one is never there.
    assert.equal(existsSync(path), child.exitCode === 0)
    assert.ok(child.exitCode === 0 || child.exitCode === 130, String(child.exitCode))
  })

  it('refuses wrong keys, names and addresses with a next step', async () => {
    await hostlet(['backup', 'keygen', '--out', join(base, 'other.jwk')])
    const other = ['--repository', url, '--key', join(base, 'other.jwk')]
    const cases: readonly [readonly string[], number, RegExp][] = [
      [['backup', 'ls', ...other], 6, /E_AUTH: none of the keys given opens .* wrapped for the keys/],
      [at('ls', '--vm', 'nobody'), 4, /holds no backups of VM nobody\. See/],
      [at('ls', '--vm', randomUUID()), 4, /holds no backups of VM/],
      [at('show', randomUUID()), 4, /there is no backup/],
      [at('show', 'newest'), 2, /"newest" is no backup/],
      [
        at('export', first(), '--disk', 'data', '--to', join(base, 'x')),
        4,
        /has no data disk: give --disk root/
      ],
      [at('export', first(), '--to', '/nonexistent/x.qcow2'), 4, /nonexistent/],
      [at('verify', first(), '--boot'), 2, /--boot needs a host/],
      [at('prune', '--vm', 'web-1'), 2, /say what to keep/],
      [at('prune', '--vm', 'web-1', '--keep-last', '0'), 2, /say what to keep/],
      [at('ls', '--ca', '/nonexistent'), 2, /CA certificate cannot be read/],
      [
        ['backup', 'ls', '--repository', 'file:///nonexistent', '--key', join(base, 'key.jwk')],
        4,
        /Mount it/
      ],
      [
        ['backup', 'ls', '--repository', `file://${base}`, '--key', join(base, 'key.jwk')],
        4,
        /holds no backups/
      ],
      [
        ['backup', 'ls', '--repository', 'ftp://x', '--key', join(base, 'key.jwk')],
        2,
        /address of a repository is/
      ],
      [['backup', 'ls', '--repository', url, '--key', join(base, 'ca.pem')], 2, /is not .*JWK.*keygen/s],
      [['backup', 'ls', '--repository', url], 2, /give --key/],
      [['backup', 'ls', '--key', 'x'], 2, /--key is for a repository/],
      [['backup', 'keygen', '--out', join(base, 'other.jwk')], 5, /exists already/],
      [['backup', 'rewrap', '--recipient', 'x'], 2, /give --repository/]
    ]
    for (const [words, status, expected] of cases) {
      const ended = await hostlet(words)
      assert.equal(ended.status, status, `${words.join(' ')}: ${ended.stderr}`)
      assert.match(ended.stderr, expected)
      assert.equal(ended.stdout, '')
    }
  })

  it('never shows a secret of the files that were given', async () => {
    const credentials = join(base, 's3.json')
    writeFileSync(credentials, '{"accessKeyId": "me", "secretAccessKey": hunter2}')
    const s3 = [
      '--repository',
      's3://bucket/x',
      '--endpoint',
      'https://127.0.0.1:1',
      '--region',
      'a',
      '--path-style'
    ]
    const words = ['backup', 'ls', ...s3, '--key', join(base, 'key.jwk'), '--credentials', credentials]
    const { status, stderr } = await hostlet(words)
    assert.equal(status, 2)
    assert.match(stderr, /holds no credentials: expected JSON/)
    assert.equal(stderr.includes('hunter2'), false)
  })

  it('changes who opens the backups, and no byte of their data', async () => {
    const [old, fresh] = [join(base, 'key.jwk'), join(base, 'fresh.jwk')]
    await hostlet(['backup', 'keygen', '--out', fresh])
    const packs = () => readdirSync(join(repository, 'vms', vault.vm, 'packs')).sort()
    const earlier = packs()
    const wrapped = await hostlet([...at('rewrap'), '--recipient', `${fresh}.pub`])
    assert.equal(wrapped.status, 0, wrapped.stderr)
    assert.match(wrapped.stdout, /^2 backups of 1 VM are now opened by/)
    assert.deepEqual(packs(), earlier)
    const shut = await hostlet(at('ls'))
    assert.equal(shut.status, 6)
    const open = await hostlet(['backup', 'verify', first(), '--repository', url, '--key', fresh])
    assert.equal(open.status, 0, open.stderr)
    const back = join(base, 'old.jwk.pub')
    const { kty, crv, x } = bench.key
    writeFileSync(back, JSON.stringify({ kty, crv, x }))
    await hostlet([
      'backup',
      'rewrap',
      '--repository',
      url,
      '--key',
      fresh,
      '--recipient',
      back,
      `${fresh}.pub`
    ])
    for (const key of [old, fresh])
      assert.equal((await hostlet(['backup', 'ls', '--repository', url, '--key', key])).status, 0)
  })

  it('prunes, after saying what it would remove', async () => {
    const rules = ['--vm', 'web-1', '--keep-last', '1']
    const dry = await hostlet(at('prune', ...rules, '--dry-run', '-o', 'json'))
    assert.equal(dry.status, 2, dry.stderr)
    assert.deepEqual(JSON.parse(dry.stdout).removed, [first()])
    assert.match((await hostlet(at('ls'))).stdout, new RegExp(first()))
    const real = await hostlet(at('prune', ...rules))
    assert.match(real.stdout, /^1 of 2 backups of VM web-1 are removed; .* came free\.\n$/)
    const left = await hostlet(at('verify', second()))
    assert.equal(left.status, 0, left.stderr)
  })

  it('names what is damaged, writes nothing of it, and exits with 1', async () => {
    const folder = join(repository, 'vms', vault.vm, 'packs')
    for (const name of readdirSync(folder))
      truncateSync(join(folder, name), statSync(join(folder, name)).size - 9)
    const verified = await hostlet(at('verify', second()))
    assert.equal(verified.status, 1)
    assert.match(verified.stdout, /packs\//)
    assert.match(verified.stderr, /E_CORRUPT: backup .* is bad: \d+ fault/)
    const path = join(base, 'damaged.qcow2')
    const exported = await hostlet(at('export', second(), '--to', path))
    assert.equal(exported.status, 1)
    assert.match(exported.stderr, /E_CORRUPT/)
    assert.equal(existsSync(path), false)
    const manifest = join(repository, 'vms', vault.vm, 'snapshots', `${second()}.json`)
    writeFileSync(
      manifest,
      readFileSync(manifest, 'utf8').replace(
        /"sealed":"(.)/,
        (_all, letter) => `"sealed":"${letter === 'A' ? 'B' : 'A'}`
      )
    )
    const listed = await hostlet(at('ls', '--vm', vault.vm))
    assert.match(listed.stderr, new RegExp(`cannot be used: backup ${second()} of VM ${vault.vm}: `))
  })
})
