// hostlet vm recover-keys NAME: opens the keys of a VM's disks with a recovery key, here, and hands them to its host.

import type { Command } from 'commander'
import type { PrivateKey, PublicKey } from '../../agent/keys/jwk.ts'
import { HostletError } from '../../errors.ts'
import { type HostView, listItemsMax, type VmDiskKeys } from '../../protocol/api.ts'
import { keysAtOnceMax, type RecoveryContent, VmAdoptKeysResult } from '../../protocol/keys.ts'
import { apiPath } from '../api-client.ts'
import { badFile, readText } from '../backup/repository.ts'
import { readResult } from '../backup/result.ts'
import { clientCommand, examples, type Session } from '../client-command.ts'
import type { Define } from '../define.ts'
import { operate, operationOptions } from '../operate.ts'

interface Options {
  readonly key: readonly string[]
  readonly hostKey?: string
  readonly wait: boolean
}

export const define: Define = (command, cli) => {
  declare(command)
  clientCommand<Options, readonly [string]>(command, cli, async (session, { options, arguments: [name] }) => {
    const privateKeys = await readKeys(options.key)
    const { contents, uuid } = await openAll(session, name, privateKeys)
    const hostKey = await keyOfHost(session, name, uuid, options.hostKey)
    const { sealFor } = await import('../../agent/keys/host-key.ts')
    const keys = await Promise.all(
      contents.flatMap(({ id, passphrases }) =>
        passphrases.map(async (passphrase) => ({ id, jwe: await sealFor(hostKey, passphrase) }))
      )
    )
    const request = {
      method: 'POST',
      path: apiPath('vms', name, 'adopt-keys'),
      body: { keys },
      signal: session.signal
    } as const
    await operate(session, request, {
      options,
      done: (ended) => doneText(name, readResult(VmAdoptKeysResult, ended))
    })
  })
}

function declare(command: Command): void {
  command
    .argument('<vm>', 'name of the VM')
    .requiredOption('--key <file...>', 'private recovery key (JWK), the fleet’s or the tenant’s')
    .option('--host-key <thumbprint>', 'refuse to hand the keys to any other key than this one')
    .addHelpText(
      'after',
      '\nThe recovery key does not leave this machine. The scheduler gives out the wrapped keys of the disks; they are opened here and wrapped for the key of the VM’s host, whose thumbprint is in its log ("host key for secrets"). Where the scheduler is not to be trusted, give that as --host-key.'
    )
  operationOptions(command)
  examples(
    command,
    'hostlet vm recover-keys web-1 --key recovery.jwk',
    'hostlet vm recover-keys web-1 --key recovery.jwk --host-key kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k'
  )
}

async function readKeys(paths: readonly string[]): Promise<readonly PrivateKey[]> {
  const { parsePrivateKey } = await import('../../agent/keys/jwk.ts')
  return Promise.all(paths.map((path) => badFile(parsePrivateKey(readText(path, 'recovery key'), path))))
}

/** Throws E_NOT_FOUND where there is nothing to open, E_AUTH where the keys given open none. */
async function openAll(
  { cli, client, signal }: Session,
  name: string,
  privateKeys: readonly PrivateKey[]
): Promise<{ contents: readonly RecoveryContent[]; uuid: string }> {
  const path = apiPath('vms', name, 'disk-keys')
  const query = { limit: listItemsMax }
  const { keys, uuid } = await client.ask({ method: 'GET', path, query, signal }, 'VmDiskKeys')
  const wrapped = keys.flatMap(({ recovery, ...key }) => (recovery ? [{ ...key, recovery }] : []))
  if (wrapped.length === 0) throw nothingWrapped(name, keys)
  const { openRecovery } = await import('../../agent/keys/recovery.ts')
  const contents: RecoveryContent[] = []
  for (const { id, volume, recipients, recovery } of wrapped) {
    const content = await openRecovery(recovery, privateKeys, { id, uuid })
    if (content !== undefined) contents.push(content)
    else cli.note(`The key of ${volume} is wrapped for other recovery keys: ${recipients.join(', ')}.`)
  }
  if (contents.length === 0)
    throw new HostletError(
      'E_AUTH',
      `no key given opens the disks of VM ${name}. Use the private half of one that "hostlet vm keys ${name}" names.`
    )
  if (contents.length > keysAtOnceMax)
    throw new HostletError('E_CAPACITY', `VM ${name} has more than ${keysAtOnceMax} keys of disks.`)
  return { contents, uuid }
}

function nothingWrapped(name: string, keys: VmDiskKeys['keys']): HostletError {
  const why =
    keys.length === 0
      ? `the scheduler has no keys of VM ${name}: its disks are not encrypted, or its host never told of them`
      : `no key of VM ${name} is wrapped for a recovery key: the policy of its host named none`
  return new HostletError(
    'E_NOT_FOUND',
    `${why}. Without the host's own state directory only a backup brings the disks back: "hostlet backup ls --vm ${name}".`
  )
}

/** What this host can open. Throws E_CONFLICT where the name belongs to another VM by now, E_UNSUPPORTED, E_AUTH. */
async function keyOfHost(
  { client, signal }: Session,
  name: string,
  uuid: string,
  expected: string | undefined
): Promise<PublicKey> {
  const { vm } = await client.ask({ method: 'GET', path: apiPath('vms', name), signal }, 'VmReply')
  if (vm.uuid !== uuid)
    throw new HostletError('E_CONFLICT', `VM ${name} is ${vm.uuid} by now, the keys are those of ${uuid}.`)
  const { host } = await client.ask({ method: 'GET', path: apiPath('hosts', vm.host), signal }, 'HostDetail')
  return thumbprinted(host, expected)
}

async function thumbprinted({ id, facts }: HostView, expected: string | undefined): Promise<PublicKey> {
  const key = facts?.secretsKey
  if (key === undefined)
    throw new HostletError(
      'E_UNSUPPORTED',
      `host ${id} has told no key to encrypt for. Upgrade its agent, or wait until it is connected.`
    )
  const { recipientOf } = await import('../../backup/vault/recipients.ts')
  const { kid } = await recipientOf(key)
  if (expected === undefined || expected === kid) return { ...key, kid }
  throw new HostletError(
    'E_AUTH',
    `host ${id} has the key ${kid}, not ${expected}: nothing was sent. Compare with the log of its agent.`
  )
}

function doneText(name: string, result: VmAdoptKeysResult | undefined): string {
  if (result === undefined) return `VM ${name} has its keys again.`
  const missing =
    result.missing.length === 0
      ? `Start it with "hostlet vm start ${name}".`
      : `Still missing: the keys of ${result.missing.join(', ')}.`
  return `VM ${name} has ${result.adopted.length} keys again, each of which opens its disk. ${missing}`
}
