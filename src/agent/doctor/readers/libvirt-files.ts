// libvirt's configuration files and directories, and Debian's package of QEMU.

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runProcess } from '../../../lib/run-process.ts'
import type { Wait } from '../../host/hypervisor.ts'
import type { Settings } from '../facts.ts'
import { filesIn, namesIn, textOf } from './files.ts'

export const libvirtConfiguration = '/etc/libvirt'
export const libvirtState = '/var/lib/libvirt/qemu'
const packageMs = 10_000
const daemons = ['libvirtd.conf', 'virtqemud.conf'] as const

/** `key = value` a line; a list may go over several. Comments are left out. */
export function parseSettings(text: string): Settings {
  const lines = text.split('\n').filter((line) => !/^\s*(#|$)/.test(line))
  const joined = lines.join('\n').replaceAll(/\[[^\]]*\]/g, (list) => list.replaceAll(/\s+/g, ' '))
  const pairs = [...joined.matchAll(/^\s*([a-z0-9_]+)\s*=\s*(.*?)\s*$/gm)]
  return Object.fromEntries(pairs.map(([, key = '', value = '']) => [key, value]))
}

/** A file that is absent sets nothing. */
export async function settingsOf(path: string): Promise<Settings> {
  return parseSettings((await textOf(path)) ?? '')
}

export async function daemonSettings(directory = libvirtConfiguration): Promise<Record<string, Settings>> {
  const all = daemons.map(async (name) => [name, await settingsOf(join(directory, name))] as const)
  return Object.fromEntries(await Promise.all(all))
}

/** What the service does at shutdown: as it is configured, or as its script has it by default, which differs by distribution. */
export async function guestsService(
  root = '/'
): Promise<{ enabled: boolean; onShutdown: string | undefined }> {
  const wants = ['multi-user.target.wants', 'default.target.wants'].map((name) =>
    namesIn(join(root, 'etc/systemd/system', name))
  )
  const files = [
    ...['etc/default', 'etc/sysconfig'].map((directory) => join(directory, 'libvirt-guests')),
    ...['usr/lib/libvirt', 'usr/libexec'].map((directory) => join(directory, 'libvirt-guests.sh'))
  ]
  const texts = await Promise.all(files.map((path) => textOf(join(root, path))))
  const setting = /^\s*ON_SHUTDOWN=["']?(\w+)/m.exec(texts.filter((text) => text !== undefined).join('\n'))
  return {
    enabled: (await Promise.all(wants)).flat().includes('libvirt-guests.service'),
    onShutdown: setting?.[1]
  }
}

/** Saved machines (`save`, `snapshot` holds text only), dumps, and memory that QEMU backs with files. */
export async function memoryImages(state = libvirtState): Promise<string[]> {
  const places = [join(state, 'save'), join(state, 'dump'), join(state, 'ram')]
  const files = await Promise.all(places.map((path) => filesIn(path, 3)))
  return files.flat().map(({ path }) => path)
}

/** Null where the package is not installed or there is no dpkg. */
export async function qemuPackage(wait: Wait): Promise<string | null> {
  if ((await textOf('/var/lib/dpkg/status').catch(() => undefined)) === undefined) return null
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a format of dpkg's
  const args = ['-W', '-f', '${db:Status-Status} ${Version}', 'qemu-system-x86']
  const { exitCode, stdout } = await runProcess('dpkg-query', args, { ...wait, deadlineMs: packageMs })
  const version = /^installed (\S+)$/.exec(stdout.trim())?.[1]
  return exitCode === 0 && version !== undefined ? version : null
}

/** Names of credentials that the agent's unit and its drop-ins load. */
export async function unitCredentials(etc = '/etc'): Promise<string[]> {
  const directory = join(etc, 'systemd', 'system')
  const dropIns = (await namesIn(join(directory, 'hostlet.service.d'))).map((name) =>
    join(directory, 'hostlet.service.d', name)
  )
  const texts = await Promise.all(
    [join(directory, 'hostlet.service'), ...dropIns].map((path) => readFile(path, 'utf8').catch(() => ''))
  )
  return [...texts.join('\n').matchAll(/^LoadCredentialEncrypted=([^:\s]+)/gm)].map(([, name = '']) => name)
}
