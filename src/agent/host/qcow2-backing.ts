// Which files a disk image stands on, read from the images themselves.

import { open, realpath } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { HostletError } from '../../errors.ts'

const magic = 0x514649fb
const headBytes = 72
const depthMax = 64
const nameBytesMax = 1_023
/** Formats that may name another file, and are not read here: QED, VMDK and its descriptor. */
const others = ['QED\0', 'KDMV', '# Di']

/**
 * The files below an image, in order, down to the first that is known otherwise; undefined where one of them cannot be read
 * or says it in a way that is not understood.
 */
export async function backingIn(
  path: string,
  isKnown: (file: string) => boolean
): Promise<string[] | undefined> {
  const chain: string[] = []
  for (let file: string | undefined = path; file !== undefined && !isKnown(file); ) {
    if (chain.length > depthMax) return undefined
    try {
      file = await backingOf(file)
    } catch {
      return undefined
    }
    if (file !== undefined) chain.push(file)
  }
  return chain
}

/** What a path leads to, links resolved; undefined where that cannot be told. One that leads nowhere leads to itself. */
export async function targetOf(path: string): Promise<string | undefined> {
  try {
    return await realpath(path)
  } catch (error) {
    const code = (error as { code?: unknown }).code
    return code === 'ENOENT' || code === 'ENOTDIR' ? path : undefined
  }
}

async function backingOf(path: string): Promise<string | undefined> {
  await using file = await open(path, 'r')
  const head = Buffer.alloc(headBytes)
  const { bytesRead } = await file.read(head, 0, headBytes, 0)
  if (others.includes(head.subarray(0, 4).toString('latin1'))) throw notUnderstood(path)
  if (bytesRead < headBytes || head.readUInt32BE(0) !== magic) return undefined
  const offset = head.readBigUInt64BE(8)
  const length = head.readUInt32BE(16)
  if (offset === 0n || length === 0) return undefined
  if (length > nameBytesMax) throw notUnderstood(path)
  const name = Buffer.alloc(length)
  await file.read(name, 0, length, Number(offset))
  const text = name.toString()
  // "json:{…}" and "nbd:…" are not names of files.
  if (/^[a-z0-9+]+:/.test(text)) throw notUnderstood(path)
  return resolve(dirname(path), text)
}

function notUnderstood(path: string): HostletError {
  return new HostletError('E_UNSUPPORTED', `what ${path} stands on cannot be told`)
}
