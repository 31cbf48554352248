// Whether this machine can run first light: each thing that is missing is one clear line with what to do.

import { accessSync, constants, existsSync } from 'node:fs'
import { Missing } from './missing.ts'
import type { Settings } from './settings.ts'

export function checkMachine(settings: Settings): void {
  if (process.platform !== 'linux')
    throw new Missing('this needs Linux with KVM or QEMU: run it on a Debian machine')
  if (process.getuid?.() !== 0)
    throw new Missing('this makes VMs and networks, so it needs root: sudo npm start')
  if (!existsSync(settings.image) || !existsSync(settings.imageDigest))
    throw new Missing('the guest image is not built: run "sh scripts/setup.sh" (npm start does)')
  const sockets = ['/run/libvirt/libvirt-sock', '/run/libvirt/virtqemud-sock']
  const socket = sockets.find((path) => existsSync(path))
  if (socket === undefined)
    throw new Missing('libvirtd does not run: run "sh scripts/setup.sh" (npm start does)')
  try {
    accessSync(socket, constants.R_OK | constants.W_OK)
  } catch {
    throw new Missing(`${socket} may not be used by this user: run as root`)
  }
}
