/** libvirt URIs: which sockets they mean, and which are refused. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ConnectionError } from '../../src/node-libvirt/errors.ts'
import { resolveUri } from '../../src/node-libvirt/uri.ts'

const surroundings = { env: { XDG_RUNTIME_DIR: '/run/user/7' }, homeDirectory: '/home/ann', readOnly: false }

describe('URIs', () => {
  it('lead to the monolithic daemon, then to the modular one', () => {
    assert.deepEqual(resolveUri('qemu:///system', surroundings), {
      name: 'qemu:///system',
      socketPaths: ['/run/libvirt/libvirt-sock', '/run/libvirt/virtqemud-sock']
    })
  })

  it('lead to the sockets of the session', () => {
    const { socketPaths } = resolveUri('qemu:///session', surroundings)
    assert.deepEqual(socketPaths, ['/run/user/7/libvirt/libvirt-sock', '/run/user/7/libvirt/virtqemud-sock'])
    const bare = resolveUri('qemu:///session', { ...surroundings, env: {} })
    assert.equal(bare.socketPaths[0], '/home/ann/.cache/libvirt/libvirt-sock')
  })

  it('lead to read-only sockets where that is asked for', () => {
    const { socketPaths } = resolveUri('qemu:///system', { ...surroundings, readOnly: true })
    assert.deepEqual(socketPaths, ['/run/libvirt/libvirt-sock-ro', '/run/libvirt/virtqemud-sock-ro'])
  })

  it('name the test driver and its files as the server wants them', () => {
    assert.equal(resolveUri('test:///default', surroundings).name, 'test:///default')
    assert.equal(resolveUri('test:///tmp/a.xml', surroundings).name, 'test:///tmp/a.xml')
  })

  it('lose transport and socket before the server sees them', () => {
    assert.deepEqual(resolveUri('qemu+unix:///system?socket=/tmp/a%20b', surroundings), {
      name: 'qemu:///system',
      socketPaths: ['/tmp/a b']
    })
  })

  const refused: readonly [string, string][] = [
    ['', 'E_BAD_REQUEST'],
    ['system', 'E_BAD_REQUEST'],
    ['qemu:///', 'E_BAD_REQUEST'],
    ['qemu:///other', 'E_BAD_REQUEST'],
    ['test:///', 'E_BAD_REQUEST'],
    ['qemu:///system?socket=relative', 'E_BAD_REQUEST'],
    ['qemu:///system?socket=/a&socket=/b', 'E_BAD_REQUEST'],
    ['qemu:///system?mode=direct', 'E_BAD_REQUEST'],
    ['qemu:///system\0', 'E_BAD_REQUEST'],
    ['qemu+ssh:///system', 'E_UNSUPPORTED'],
    ['qemu+tls://host/system', 'E_UNSUPPORTED'],
    ['qemu://host/system', 'E_UNSUPPORTED'],
    ['xen:///system', 'E_UNSUPPORTED'],
    ['constructor:///system', 'E_UNSUPPORTED']
  ]
  for (const [uri, code] of refused) {
    it(`refuse ${JSON.stringify(uri)}`, () => {
      assert.throws(
        () => resolveUri(uri, surroundings),
        (error) => error instanceof ConnectionError && error.code === code
      )
    })
  }
})
