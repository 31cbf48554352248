// Tells whether node_modules holds what package-lock.json asks for; exit 0 if so, 1 if "npm ci" is needed.
// Runs on the machine's own Node (20 or newer), before any dependency is there.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const root = process.argv[2] ?? '.'
process.exit(isInstalled() ? 0 : 1)

// npm writes node_modules/.package-lock.json last, so an interrupted install has none.
function isInstalled() {
  const record = join(root, 'node_modules/.package-lock.json')
  if (!existsSync(record)) return false
  const installed = readPackages(record)
  return Object.entries(readPackages(join(root, 'package-lock.json'))).every(
    ([path, wanted]) => !path.startsWith('node_modules/') || isSatisfied(path, wanted, installed[path])
  )
}

function isSatisfied(path, wanted, found) {
  if (wanted.optional && !found) return !isForThisMachine(wanted)
  if (!found || !existsSync(join(root, path))) return false
  return wanted.version === found.version && wanted.integrity === found.integrity
}

function isForThisMachine({ os = [process.platform], cpu = [process.arch], libc }) {
  return (
    os.includes(process.platform) && cpu.includes(process.arch) && !libc?.every((name) => name === 'musl')
  )
}

function readPackages(file) {
  return JSON.parse(readFileSync(file, 'utf8')).packages
}
