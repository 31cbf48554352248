// Bytes as libvirt writes them (remote_protocol.x, RFC 4506), for one declaration of each shape.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { domainBackupBegin } from '../../../src/node-libvirt/protocol/backup.ts'
import { authList, connectOpen } from '../../../src/node-libvirt/protocol/connect.ts'
import {
  connectListAllDomains,
  domainGetDiskErrors,
  domainGetInfo,
  domainGetState,
  domainUndefineFlags
} from '../../../src/node-libvirt/protocol/domain.ts'
import { domainSetMetadata } from '../../../src/node-libvirt/protocol/domain-metadata.ts'
import {
  domainPinVcpuFlags,
  domainSetSchedulerParametersFlags
} from '../../../src/node-libvirt/protocol/domain-tuning.ts'
import {
  connectDomainEventCallbackRegisterAny,
  domainEventJobCompleted,
  domainEventLifecycle,
  domainEventPmSuspend
} from '../../../src/node-libvirt/protocol/events.ts'
import {
  domainInterfaceAddresses,
  domainQemuAgentCommand
} from '../../../src/node-libvirt/protocol/guest-agent.ts'
import { networkGetDhcpLeases, networkUpdate } from '../../../src/node-libvirt/protocol/network.ts'
import { nodeGetInfo, nodeGetSecurityModel } from '../../../src/node-libvirt/protocol/node.ts'
import type { Domain } from '../../../src/node-libvirt/protocol/objects.ts'
import { secretSetValue } from '../../../src/node-libvirt/protocol/secret.ts'
import { connectGetAllDomainStats } from '../../../src/node-libvirt/protocol/statistics.ts'
import { storageVolUpload } from '../../../src/node-libvirt/protocol/storage.ts'
import {
  decodeAll,
  encodeAll,
  type Type,
  type TypedParameterInput
} from '../../../src/node-libvirt/xdr/schema.ts'
import { hex } from './hex.ts'

const web: Domain = { name: 'web', uuid: Buffer.from('00112233445566778899aabbccddeeff', 'hex'), id: 7 }
const webBytes = hex`
  00 00 00 03  77 65 62 00                         # name: length 3, "web", padding
  00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff  # uuid: no length, no padding
  00 00 00 07                                      # id
`

function bytesOf<In>(type: Type<unknown, In>, value: In): Buffer {
  return encodeAll(type, value, 65_536)
}

function afterDomain(bytes: Buffer): Buffer {
  return Buffer.concat([webBytes, bytes])
}

describe('bytes of calls', () => {
  it('writes text behind a present pointer, padded to four bytes', () => {
    assert.deepEqual(
      bytesOf(connectOpen.args, { name: 'qemu:///system', flags: 1 }),
      hex`
        00 00 00 01              # name is present
        00 00 00 0e              # its length, 14
        71 65 6d 75 3a 2f 2f 2f  # "qemu:///"
        73 79 73 74 65 6d        # "system"
        00 00                    # padding
        00 00 00 01              # flags: read only
      `
    )
  })

  it('writes a null pointer as one zero word', () => {
    assert.deepEqual(
      bytesOf(connectOpen.args, { name: null, flags: 0 }),
      hex`
        00 00 00 00  # no name
        00 00 00 00  # flags
      `
    )
  })

  it('writes nothing where a call has no arguments', () => {
    assert.deepEqual(bytesOf(authList.args, {}), Buffer.alloc(0))
  })

  it('writes a domain as name, uuid, id', () => {
    assert.deepEqual(
      bytesOf(domainUndefineFlags.args, { domain: { ...web, id: -1 }, flags: 0x1b }),
      hex`
        00 00 00 03  77 65 62 00
        00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff
        ff ff ff ff  # id -1: not running
        00 00 00 1b  # flags
      `
    )
  })

  it('tells empty text from none', () => {
    assert.deepEqual(
      bytesOf(domainSetMetadata.args, {
        domain: web,
        type: 2,
        metadata: null,
        key: '',
        uri: 'u:x',
        flags: 3
      }),
      afterDomain(hex`
        00 00 00 02                          # type: element
        00 00 00 00                          # metadata: none, so remove it
        00 00 00 01  00 00 00 00             # key: present and empty
        00 00 00 01  00 00 00 03 75 3a 78 00 # uri: "u:x"
        00 00 00 03                          # flags: live and config
      `)
    )
  })

  it('writes a CPU map as counted bytes', () => {
    assert.deepEqual(
      bytesOf(domainPinVcpuFlags.args, { domain: web, vcpu: 1, cpuMap: Buffer.from([0x03, 0x80]), flags: 0 }),
      afterDomain(hex`
        00 00 00 01               # vcpu
        00 00 00 02  03 80 00 00  # map: 2 bytes (CPUs 0, 1 and 15), padding
        00 00 00 00               # flags
      `)
    )
  })

  it('writes typed parameters of all seven types', () => {
    const parameters: TypedParameterInput[] = [
      { field: 'i', type: 'int', value: -2 },
      { field: 'ui', type: 'uint', value: 4_294_967_295 },
      { field: 'l', type: 'llong', value: -1 },
      { field: 'ul', type: 'ullong', value: 18_446_744_073_709_551_615n },
      { field: 'd', type: 'double', value: 1.5 },
      { field: 'b', type: 'boolean', value: true },
      { field: 's', type: 'string', value: 'text!' }
    ]
    assert.deepEqual(
      bytesOf(domainSetSchedulerParametersFlags.args, { domain: web, parameters, flags: 2 }),
      afterDomain(hex`
        00 00 00 07                                                   # seven parameters
        00 00 00 01 69 00 00 00  00 00 00 01  ff ff ff fe              # i: int -2
        00 00 00 02 75 69 00 00  00 00 00 02  ff ff ff ff              # ui: unsigned int
        00 00 00 01 6c 00 00 00  00 00 00 03  ff ff ff ff ff ff ff ff  # l: long long -1
        00 00 00 02 75 6c 00 00  00 00 00 04  ff ff ff ff ff ff ff ff  # ul: unsigned long long
        00 00 00 01 64 00 00 00  00 00 00 05  3f f8 00 00 00 00 00 00  # d: double 1.5
        00 00 00 01 62 00 00 00  00 00 00 06  00 00 00 01              # b: boolean, four bytes
        00 00 00 01 73 00 00 00  00 00 00 07                           # s: string
        00 00 00 05  74 65 78 74  21 00 00 00                          #   "text!", padding
        00 00 00 02                                                    # flags: config
      `)
    )
  })

  it('writes offset and length of a transfer in eight bytes each', () => {
    const volume = { pool: 'p', name: 'v', key: '/v' }
    assert.deepEqual(
      bytesOf(storageVolUpload.args, { volume, offsetBytes: 5_000_000_000, lengthBytes: 512n, flags: 1 }),
      hex`
        00 00 00 01 70 00 00 00  # pool "p"
        00 00 00 01 76 00 00 00  # name "v"
        00 00 00 02 2f 76 00 00  # key "/v"
        00 00 00 01 2a 05 f2 00  # offset 5,000,000,000
        00 00 00 00 00 00 02 00  # length 512
        00 00 00 01              # flags: sparse
      `
    )
  })

  it('writes the command of a network update before the section', () => {
    const network = { name: 'n', uuid: web.uuid }
    assert.deepEqual(
      bytesOf(networkUpdate.args, {
        network,
        command: 3,
        section: 4,
        parentIndex: -1,
        xml: '<h/>',
        flags: 0
      }),
      hex`
        00 00 00 01 6e 00 00 00                          # network "n"
        00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff  # its uuid
        00 00 00 03                                      # command: add last
        00 00 00 04                                      # section: DHCP host
        ff ff ff ff                                      # parent index: any
        00 00 00 04 3c 68 2f 3e                          # "<h/>"
        00 00 00 00                                      # flags
      `
    )
  })

  it('writes a backup without a checkpoint', () => {
    assert.deepEqual(
      bytesOf(domainBackupBegin.args, { domain: web, backupXml: '<b/>', checkpointXml: null, flags: 1 }),
      afterDomain(hex`
        00 00 00 04 3c 62 2f 3e  # "<b/>"
        00 00 00 00              # no checkpoint
        00 00 00 01              # flags: scratch files exist
      `)
    )
  })

  it('writes a secret value as the bytes that it is', () => {
    const secret = { uuid: web.uuid, usageType: 1, usageId: '' }
    assert.deepEqual(
      bytesOf(secretSetValue.args, { secret, value: Buffer.from([0x00, 0xff, 0x0a]), flags: 0 }),
      hex`
        00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff  # uuid
        00 00 00 01                                      # usage: volume
        00 00 00 00                                      # of no name
        00 00 00 03  00 ff 0a 00                         # value: 3 bytes, padding
        00 00 00 00                                      # flags
      `
    )
  })

  it('writes a registration for one domain, and for all', () => {
    assert.deepEqual(
      bytesOf(connectDomainEventCallbackRegisterAny.args, { eventId: 21, domain: web }),
      Buffer.concat([hex`00 00 00 15  00 00 00 01`, webBytes])
    )
    assert.deepEqual(
      bytesOf(connectDomainEventCallbackRegisterAny.args, { eventId: 21, domain: null }),
      hex`00 00 00 15  00 00 00 00`
    )
  })
})

describe('bytes of replies', () => {
  it('reads a state', () => {
    assert.deepEqual(decodeAll(domainGetState.result, hex`00 00 00 03  00 00 00 05`), { state: 3, reason: 5 })
  })

  it('reads chars and shorts from four bytes each', () => {
    const reply = hex`
      00 00 00 01              # state: an unsigned char
      00 00 00 00 00 10 00 00  # maximum memory
      00 00 00 00 00 08 00 00  # memory
      00 00 00 02              # vCPUs: an unsigned short
      00 00 00 02 54 0b e4 00  # CPU time
    `
    assert.deepEqual(decodeAll(domainGetInfo.result, reply), {
      state: 1,
      memoryMaxKib: 1_048_576n,
      memoryKib: 524_288n,
      vcpus: 2,
      cpuTimeNs: 10_000_000_000n
    })
  })

  it('reads a list of domains and the count behind it', () => {
    const reply = Buffer.concat([hex`00 00 00 02`, webBytes, webBytes, hex`00 00 00 02`])
    assert.deepEqual(decodeAll(connectListAllDomains.result, reply), { domains: [web, web], count: 2 })
  })

  it('reads the characters of a fixed array up to the NUL', () => {
    const model = hex`
      00 00 00 78 00 00 00 38 00 00 00 36 00 00 00 5f  # "x86_"
      00 00 00 36 00 00 00 34 00 00 00 00 00 00 00 7f  # "64", the end, and what was in memory behind it
    `
    const reply = Buffer.concat([
      model,
      Buffer.alloc(24 * 4),
      hex`
        00 00 00 00 00 3d 09 00                          # memory
        00 00 00 02  00 00 09 60                         # cpus, mhz
        00 00 00 01  00 00 00 01 00 00 00 02 00 00 00 01 # nodes, sockets, cores, threads
      `
    ])
    assert.deepEqual(decodeAll(nodeGetInfo.result, reply), {
      model: 'x86_64',
      memoryKib: 4_000_000n,
      cpus: 2,
      mhz: 2400,
      nodes: 1,
      sockets: 1,
      cores: 2,
      threads: 1
    })
  })

  it('reads the characters of a counted array', () => {
    const reply = hex`
      00 00 00 04  00 00 00 64 00 00 00 61 00 00 00 63 00 00 00 00  # "dac" and its NUL
      00 00 00 01  00 00 00 30                                      # "0" without one
    `
    assert.deepEqual(decodeAll(nodeGetSecurityModel.result, reply), {
      model: 'dac',
      domainOfInterpretation: '0'
    })
  })

  it('reads a lease whose optional fields are partly missing', () => {
    const reply = hex`
      00 00 00 01                          # one lease
      00 00 00 04 76 69 72 30              # interface "vir0"
      00 00 00 00 68 e7 78 00              # expiry
      00 00 00 00                          # type: IPv4
      00 00 00 01  00 00 00 02 61 62 00 00 # mac "ab"
      00 00 00 00                          # no iaid
      00 00 00 08 31 30 2e 30 2e 30 2e 32  # address "10.0.0.2"
      00 00 00 18                          # prefix
      00 00 00 00                          # no hostname
      00 00 00 01  00 00 00 00             # client id: empty
      00 00 00 01                          # count
    `
    assert.deepEqual(decodeAll(networkGetDhcpLeases.result, reply), {
      leases: [
        {
          interface: 'vir0',
          expiry: 1_760_000_000n,
          type: 0,
          mac: 'ab',
          iaid: null,
          address: '10.0.0.2',
          prefixBits: 24,
          hostname: null,
          clientId: ''
        }
      ],
      count: 1
    })
  })

  it('reads arrays in arrays', () => {
    const reply = hex`
      00 00 00 02                                  # two interfaces
      00 00 00 02 6c 6f 00 00                      # "lo"
      00 00 00 00                                  # without a mac
      00 00 00 02                                  # two addresses
      00 00 00 00  00 00 00 01 61 00 00 00  00 00 00 08
      00 00 00 01  00 00 00 01 62 00 00 00  00 00 00 80
      00 00 00 02 65 6e 00 00                      # "en"
      00 00 00 01  00 00 00 01 6d 00 00 00         # mac "m"
      00 00 00 00                                  # no address
    `
    assert.deepEqual(decodeAll(domainInterfaceAddresses.result, reply), {
      interfaces: [
        {
          name: 'lo',
          mac: null,
          addresses: [
            { type: 0, address: 'a', prefixBits: 8 },
            { type: 1, address: 'b', prefixBits: 128 }
          ]
        },
        { name: 'en', mac: 'm', addresses: [] }
      ]
    })
  })

  it('reads statistics with parameters of all seven types', () => {
    const reply = Buffer.concat([
      hex`00 00 00 01  # one record`,
      webBytes,
      hex`
        00 00 00 08                                                   # eight parameters
        00 00 00 01 69 00 00 00  00 00 00 01  ff ff ff fe              # i: int
        00 00 00 02 75 69 00 00  00 00 00 02  ff ff ff ff              # ui: unsigned int
        00 00 00 01 6c 00 00 00  00 00 00 03  ff ff ff ff ff ff ff ff  # l: long long
        00 00 00 02 75 6c 00 00  00 00 00 04  00 1f ff ff ff ff ff ff  # ul: the largest exact number
        00 00 00 02 75 6d 00 00  00 00 00 04  00 20 00 00 00 00 00 00  # um: one more
        00 00 00 01 64 00 00 00  00 00 00 05  3f f8 00 00 00 00 00 00  # d: double
        00 00 00 01 62 00 00 00  00 00 00 06  00 00 00 00              # b: boolean
        00 00 00 01 73 00 00 00  00 00 00 07  00 00 00 02 c3 a9 00 00  # s: string, UTF-8
      `
    ])
    assert.deepEqual(decodeAll(connectGetAllDomainStats.result, reply), {
      statistics: [
        {
          domain: web,
          parameters: [
            { field: 'i', value: -2 },
            { field: 'ui', value: 4_294_967_295 },
            { field: 'l', value: -1 },
            { field: 'ul', value: 9_007_199_254_740_991 },
            { field: 'um', value: 9_007_199_254_740_992n },
            { field: 'd', value: 1.5 },
            { field: 'b', value: false },
            { field: 's', value: 'é' }
          ]
        }
      ]
    })
  })

  it('reads a missing answer of the guest agent', () => {
    assert.deepEqual(decodeAll(domainQemuAgentCommand.result, hex`00 00 00 00`), { result: null })
  })
})

describe('bytes of events', () => {
  it('reads what happened to which domain', () => {
    const message = Buffer.concat([hex`00 00 00 09`, webBytes, hex`00 00 00 05  00 00 00 01`])
    assert.deepEqual(decodeAll(domainEventLifecycle.payload, message), {
      callbackId: 9,
      domain: web,
      event: 5,
      detail: 1
    })
  })

  it('reads the reason of a suspend before its domain', () => {
    const message = Buffer.concat([hex`00 00 00 09  00 00 00 02`, webBytes])
    assert.deepEqual(decodeAll(domainEventPmSuspend.payload, message), {
      callbackId: 9,
      reason: 2,
      domain: web
    })
  })

  it('reads the statistics of a job that ended', () => {
    const message = Buffer.concat([
      hex`00 00 00 09`,
      webBytes,
      hex`
        00 00 00 02
        00 00 00 09 6f 70 65 72 61 74 69 6f 6e 00 00 00  00 00 00 01  00 00 00 09  # operation: backup
        00 00 00 07 73 75 63 63 65 73 73 00  00 00 00 06  00 00 00 01              # success: true
      `
    ])
    assert.deepEqual(decodeAll(domainEventJobCompleted.payload, message), {
      callbackId: 9,
      domain: web,
      parameters: [
        { field: 'operation', value: 9 },
        { field: 'success', value: true }
      ]
    })
  })
})

describe('bounds', () => {
  it('refuses to send more than the server would take', () => {
    const parameters = Array.from({ length: 17 }, () => ({ field: 'f', type: 'int' as const, value: 0 }))
    const refused = { name: 'XdrError' }
    assert.throws(
      () => bytesOf(domainSetSchedulerParametersFlags.args, { domain: web, parameters, flags: 0 }),
      refused
    )
    const cpuMap = Buffer.alloc(2_049)
    assert.throws(() => bytesOf(domainPinVcpuFlags.args, { domain: web, vcpu: 0, cpuMap, flags: 0 }), refused)
    const uuid = Buffer.alloc(15)
    assert.throws(() => bytesOf(domainUndefineFlags.args, { domain: { ...web, uuid }, flags: 0 }), refused)
  })

  it('refuses a list that claims more than libvirt sends', () => {
    const claimed = hex`00 00 01 01  # 257 errors where at most 256 may be`
    assert.throws(
      () => decodeAll(domainGetDiskErrors.result, Buffer.concat([claimed, Buffer.alloc(8_192)])),
      {
        name: 'XdrError'
      }
    )
  })
})
