// The program as few files of plain JavaScript: entry points, shared chunks, and what they read beside themselves.

import { cpSync, globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { build, type Metafile, type Plugin } from 'esbuild'

/** The oldest Node that the bundle has to run on is the one that it is packed with. */
const target = 'node26'

/** A package that is loaded when it is used. */
const lazyPattern = /\bawait import\(('(?!\.|node:)[^']+')\)/g

/** Names of files beside the source as the sources write them, which the plugin below puts right for the bundle. */
const besidePattern =
  /new URL\(\s*'([^']+)',\s*import\.meta\.url\s*\)|\bjoin\(\s*import\.meta\.dirname,\s*'([^']+)'\s*\)/g

export interface BundleOptions {
  readonly root: string
  /** An empty directory. */
  readonly out: string
  readonly version: string
  /** Faults are in the error alone. */
  readonly quiet?: boolean
}

/**
 * Everything that goes into the bundle. Programs (worker threads, children) and files that a source names by
 * `new URL('./name', import.meta.url)` or `join(import.meta.dirname, 'name')` are found by themselves: a name that ends in
 * `.ts` becomes an entry point, everything else is copied, a directory with all that is in it. What is reached in any
 * other way is declared here.
 */
export function inputsOf(root: string): BundleInputs {
  const programs = new Set([join(root, 'src/main.ts')])
  const assets = new Set<string>()
  for (const source of sourcesOf(root))
    for (const path of besideOf(source))
      if (isProgram(path)) programs.add(path)
      else if (path !== join(root, 'package.json')) assets.add(path)
  return { programs: [...programs].sort(), assets: [...assets].sort() }
}

/**
 * Folders whose files are made ready by the function that does it in development, named by the module that exports it: in the
 * bundle nothing is left to do, and the packages that they come from are not there. Such a module may look for them.
 */
const readyFolders: readonly ReadyFolder[] = [
  {
    folder: 'src/scheduler/web',
    module: 'src/scheduler/http/web-assets.ts',
    export: 'webFiles',
    packages: ['@xterm/addon-fit', '@xterm/xterm', 'htm', 'preact', 'uplot']
  }
]

interface ReadyFolder {
  readonly folder: string
  readonly module: string
  /** Takes nothing and returns the text of each file by its name. */
  readonly export: string
  /** Whose code is in it, for the licences. */
  readonly packages: readonly string[]
}

export interface BundleInputs {
  /** Absolute paths of TypeScript modules that are started by name. */
  readonly programs: readonly string[]
  /** Absolute paths of files and directories that are read at run time. */
  readonly assets: readonly string[]
}

/** Writes the bundle; resolves with the packages whose code is in it, as paths of their directories. */
export async function bundle({
  root,
  out,
  version,
  quiet = false
}: BundleOptions): Promise<readonly string[]> {
  const { programs, assets } = inputsOf(root)
  const names = programs.map((path) => outputNameOf(path))
  if (new Set(names).size !== names.length) throw new Error(`two programs of one name: ${names.join(' ')}`)
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: programs.map((path) => ({ in: path, out: basename(path, '.ts') })),
    outdir: out,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target,
    minifySyntax: true,
    // Packages of CommonJS call require for what is Node's own.
    banner: {
      js: "import{createRequire as $require}from'node:module';const require=$require(import.meta.url);"
    },
    chunkNames: 'chunk-[hash]',
    legalComments: 'none',
    plugins: [sourcesPlugin(root)],
    metafile: true,
    logLevel: quiet ? 'silent' : 'warning'
  })
  writeFileSync(
    join(out, 'package.json'),
    `${JSON.stringify({ name: 'hostlet', version, type: 'module' }, null, 2)}\n`
  )
  for (const asset of assets) await putAsset(root, asset, join(out, assetNameOf(root, asset)))
  const inAssets = readyFolders.filter(({ folder }) => assets.includes(join(root, folder)))
  const paths = inAssets.flatMap(({ packages }) => packages.map((name) => join(root, 'node_modules', name)))
  return [...new Set([...packagesOf(metafile, root), ...paths])].sort()
}

async function putAsset(root: string, asset: string, to: string): Promise<void> {
  const ready = readyFolders.find(({ folder }) => join(root, folder) === asset)
  if (ready === undefined) return cpSync(asset, to, { recursive: true })
  const module = (await import(join(root, ready.module))) as Record<string, () => ReadonlyMap<string, string>>
  for (const [name, text] of module[ready.export]?.() ?? []) {
    mkdirSync(dirname(join(to, name)), { recursive: true })
    writeFileSync(join(to, name), text)
  }
}

/**
 * Chunks lie beside the entry points, whatever directory their sources came from. And a package of CommonJS that is
 * loaded when used has but a default export there, where Node finds the names.
 */
function sourcesPlugin(root: string): Plugin {
  return {
    name: 'sources',
    setup(hooks) {
      hooks.onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => {
        // The launcher names the runtime.
        const text = readFileSync(path, 'utf8').replace(/^#!.*\n/, '')
        const left = /import\.meta\.(?!main\b)\w+/.exec(text.replaceAll(besidePattern, ''))
        const looks = readyFolders.some(({ module }) => join(root, module) === path)
        if (left !== null && !looks) return { errors: [{ text: `${left[0]}: ${howToName}` }] }
        const contents = text.replaceAll(besidePattern, (whole, name: string | undefined, joined: string) => {
          const beside = resolve(dirname(path), name ?? joined)
          const output = isProgram(beside) ? outputNameOf(beside) : assetNameOf(root, beside)
          return whole.replace(name ?? joined, `./${output}${name?.endsWith('/') ? '/' : ''}`)
        })
        return {
          contents: contents.replaceAll(lazyPattern, `await import($1).then(${namesOf})`),
          loader: 'ts'
        }
      })
    }
  }
}

const howToName =
  "the bundle finds files beside a source only as new URL('./name', import.meta.url) or join(import.meta.dirname, 'name')"
const namesOf = "(it) => (Object.keys(it).join() === 'default' ? it.default : it)"

function isProgram(path: string): boolean {
  return path.endsWith('.ts')
}

function outputNameOf(program: string): string {
  return `${basename(program, '.ts')}.js`
}

function assetNameOf(root: string, asset: string): string {
  const path = relative(root, asset)
  // The bundle has a package.json of its own.
  return path === 'package.json' ? path : join('assets', path.replace(/^src\//, ''))
}

function besideOf(source: string): string[] {
  const text = readFileSync(source, 'utf8')
  return [...text.matchAll(besidePattern)].map(([, name, joined]) =>
    resolve(dirname(source), name ?? joined ?? '')
  )
}

function sourcesOf(root: string): string[] {
  return globSync('src/**/*.ts', { cwd: root })
    .filter((path) => !path.includes('node_modules'))
    .map((path) => join(root, path))
    .sort()
}

function packagesOf(metafile: Metafile, root: string): string[] {
  const used = Object.values(metafile.outputs).flatMap(({ inputs }) =>
    Object.entries(inputs).flatMap(([path, { bytesInOutput }]) => (bytesInOutput > 0 ? [path] : []))
  )
  const directories = used.flatMap((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? [])
  return [...new Set(directories)].sort().map((path) => join(root, path))
}
