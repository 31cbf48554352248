// Mapped ports and resolvers: whose they are, who listens already, and which the host itself asks.

import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { describe, it } from 'node:test'
import type { FirewallSubject } from '../../../src/agent/firewall/inventory.ts'
import {
  checkMappings,
  hostListening,
  type ListeningPorts,
  type PortHolder,
  portsIn,
  requireFree
} from '../../../src/agent/firewall/port-mappings.ts'
import { resolversOf } from '../../../src/agent/firewall/resolvers.ts'
import type { PortMapping, VmSpecification } from '../../../src/protocol/vm.ts'

const range = { first: 20_000, last: 20_009 }
const tcp = (hostPort: number): PortMapping => ({ transport: 'tcp', hostPort, vmPort: 80 })

function vm(name: string, ...ports: PortMapping[]): VmSpecification {
  return { name, uuid: name, network: { ports } } as unknown as VmSpecification
}

const holder = { specification: vm('web-1', tcp(20_001)) } as FirewallSubject
const nobody = async () => new Set<string>()
const beside = (listening: ListeningPorts, foreign: readonly PortHolder[] = []) => ({
  listening,
  foreign: async () => foreign
})

describe('mapped ports', () => {
  it('lie in the host’s range, and are named once', () => {
    checkMappings(vm('a', tcp(20_000), tcp(20_009), { ...tcp(20_000), transport: 'udp' }), range)
    for (const wrong of [[tcp(19_999)], [tcp(20_010)], [tcp(20_001), tcp(20_001)]])
      assert.throws(() => checkMappings(vm('a', ...wrong), range), { code: 'E_BAD_REQUEST' })
  })

  it('are one VM’s only', async () => {
    await assert.rejects(requireFree(vm('a', tcp(20_001)), [holder], beside(nobody)), {
      code: 'E_CONFLICT',
      message: /port 20001 \(tcp\) of the host: VM web-1 has it/
    })
    await requireFree(vm('a', { ...tcp(20_001), transport: 'udp' }), [holder], beside(nobody))
    await requireFree(vm('web-1', tcp(20_001)), [holder], beside(nobody))
  })

  it('of a quarantined domain stay its own', async () => {
    const quarantined = { name: 'copy', hostPorts: [tcp(20_001)] }
    await assert.rejects(requireFree(vm('a', tcp(20_001)), [], beside(nobody, [quarantined])), {
      code: 'E_CONFLICT',
      message: /VM copy has it/
    })
  })

  it('are not taken from a program of the host', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = Object(server.address())
    try {
      await assert.rejects(requireFree(vm('a', tcp(port)), [], beside(hostListening)), {
        code: 'E_CONFLICT',
        message: /a program on the host listens there/
      })
    } finally {
      server.close()
    }
  })

  it('are read from the kernel’s list by state', () => {
    const text = `  sl  local_address rem_address   st tx_queue
   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000
   1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000
   2: 00000000000000000000000000000000:4E21 00000000000000000000000000000000:0000 0A 0`
    assert.deepEqual(portsIn(text, '0A'), [22, 20_001])
  })
})

describe('resolvers', () => {
  const files: Record<string, string> = {
    '/etc/resolv.conf':
      'search example.org\nnameserver 127.0.0.53\nnameserver 192.0.2.1\n nameserver 2001:db8::1\n',
    '/run/systemd/resolve/resolv.conf': 'nameserver 192.0.2.9\n'
  }
  const read = (text?: string) => (path: string) => {
    const found = text !== undefined && path === '/etc/resolv.conf' ? text : files[path]
    if (found === undefined) throw new Error('absent')
    return found
  }

  it('are the configured ones, else the host’s own that are not on loopback', () => {
    assert.deepEqual(resolversOf(['198.51.100.1'], read()), ['198.51.100.1'])
    assert.deepEqual(resolversOf([], read()), ['192.0.2.1'])
  })

  it('are those behind systemd’s own where only that is named', () => {
    assert.deepEqual(resolversOf([], read('nameserver 127.0.0.53\n')), ['192.0.2.9'])
  })

  it('may be none', () => {
    const absent = () => {
      throw new Error('absent')
    }
    assert.deepEqual(resolversOf([], absent), [])
  })
})
