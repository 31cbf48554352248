// XML of backup jobs: which disks they name, which they leave out, and whose a job is.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { backupXml, checkpointXml, isOurJob, readLiveDomain } from '../../../src/agent/host/backup-xml.ts'
import { backupSocketName, backupToken } from '../../../src/agent/host/names.ts'
import { find, findAll, readXml } from '../../../src/agent/host/xml-read.ts'

const targets = ['vda', 'vdb', 'sda']
const root = { role: 'root', target: 'vda', scratchPath: '/pool/a.scratch.qcow2' } as const
const socketPath = `/var/lib/libvirt/qemu/domain-1-vm/${backupSocketName(backupToken('s1'))}`

describe('the XML of a backup job', () => {
  it('names every disk that is not backed up, in the job and in the checkpoint', () => {
    const job = readXml(backupXml({ targets, disks: [root], socketPath, since: null }))
    assert.deepEqual(disksOf(job, 'backup'), { vda: 'yes', vdb: 'no', sda: 'no' })
    const checkpoint = readXml(checkpointXml('c1', { targets, disks: [root] }))
    assert.deepEqual(disksOf(checkpoint, 'checkpoint'), { vda: 'bitmap', vdb: 'no', sda: 'no' })
  })

  it('asks for a bitmap only where changes are wanted', () => {
    const bitmapOf = (since: string | null) =>
      find(readXml(backupXml({ targets, disks: [root], socketPath, since })), 'disks', 'disk')?.attributes
        .exportbitmap
    assert.equal(bitmapOf(null), undefined)
    assert.equal(bitmapOf('hostlet-c1'), 'hostlet-changed')
    const job = readXml(backupXml({ targets, disks: [root], socketPath, since: 'hostlet-c1' }))
    assert.equal(find(job, 'incremental')?.text, 'hostlet-c1')
  })

  it('gives the key of a scratch file that has one', () => {
    const disk = { ...root, scratchSecret: '0b54e6f2-6b53-4a3e-9d1c-000000000001' }
    const job = readXml(backupXml({ targets, disks: [disk], socketPath, since: null }))
    const encryption = find(job, 'disks', 'disk', 'scratch', 'encryption')
    assert.equal(encryption?.attributes.format, 'luks')
    assert.equal(find(encryption, 'secret')?.attributes.uuid, disk.scratchSecret)
  })

  it('tells a job of ours from one of somebody else, by its socket', () => {
    assert.equal(isOurJob(backupXml({ targets, disks: [root], socketPath, since: null })), true)
    const other = backupXml({ targets, disks: [root], socketPath: '/tmp/backup.sock', since: null })
    assert.equal(isOurJob(other), false)
    assert.equal(isOurJob("<domainbackup mode='push'/>"), false)
  })
})

describe('a running domain', () => {
  const domain = (agent: string, encryption = '') =>
    `<domain><devices>
      <disk device='disk'><source file='/pool/r'>${encryption}</source><target dev='vda'/></disk>
      <disk device='cdrom'><target dev='sda'/></disk>
      <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' ${agent}/></channel>
    </devices></domain>`

  it('has the disks of our names, encrypted or not', () => {
    const { disks, targets: found } = readLiveDomain(domain(''))
    assert.deepEqual(found, ['vda', 'sda'])
    assert.deepEqual(disks, [{ role: 'root', target: 'vda', path: '/pool/r', encrypted: false }])
    const [sealed] = readLiveDomain(domain('', "<encryption format='luks'/>")).disks
    assert.equal(sealed?.encrypted, true)
  })

  it('says whether an agent answers', () => {
    assert.equal(readLiveDomain(domain("state='connected'")).agent, 'connected')
    assert.equal(readLiveDomain(domain("state='disconnected'")).agent, 'away')
    assert.equal(readLiveDomain('<domain><devices/></domain>').agent, 'none')
  })
})

function disksOf(xml: ReturnType<typeof readXml>, attribute: string): Record<string, string | undefined> {
  const disks = findAll(find(xml, 'disks'), 'disk')
  return Object.fromEntries(disks.map(({ attributes }) => [attributes.name, attributes[attribute]]))
}
