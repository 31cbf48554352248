// The files of the dashboard: runnable by a browser as they are served, and complete in another folder.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, posix } from 'node:path'
import { after, describe, it } from 'node:test'
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import { loadWebAssets, webFiles } from '../../../src/scheduler/http/web-assets.ts'

const assets = loadWebAssets()
const scripts = [...assets.files].filter(([path]) => path.endsWith('.js'))
const specifiers = (text: string) =>
  [...text.matchAll(/(?:^|[;}\s])(?:import|export)\b[^'"`;()]*?\bfrom\s*['"]([^'"]+)['"]/g)].map(
    ([, specifier = '']) => specifier
  )

describe('files of the dashboard', () => {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-web-'))
  after(() => rmSync(directory, { recursive: true, force: true }))

  it('are scripts that import nothing but one another', () => {
    assert.ok(scripts.length > 25, `found ${scripts.length}`)
    for (const [path, { bytes }] of scripts)
      for (const specifier of specifiers(bytes.toString())) {
        assert.match(specifier, /^\.\.?\/.*\.js$/, `${path} imports ${specifier}`)
        const target = posix.join(posix.dirname(path), specifier)
        assert.ok(assets.files.has(target), `${path} imports ${target}, which is not served`)
      }
  })

  it('hold no types, no names of packages, no addresses of elsewhere, and no map of sources', () => {
    const ours = scripts.filter(([path]) => !path.includes('/vendor/'))
    for (const [path, { bytes }] of ours) {
      const text = bytes.toString()
      assert.doesNotMatch(text, /^import type|^export (?:type|interface) /m, path)
      assert.doesNotMatch(text, /https?:\/\//, path)
    }
    for (const [path, { bytes }] of scripts) assert.doesNotMatch(bytes.toString(), /sourceMappingURL/, path)
  })

  it('never make markup of text: no innerHTML, eval or the like in what is ours', () => {
    for (const [path, { bytes }] of scripts.filter(([path]) => !path.includes('/vendor/')))
      assert.doesNotMatch(
        bytes.toString(),
        /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setTimeout\(['"]/,
        path
      )
  })

  it('name each other in the page under the hash of all, and have no script or style in it', () => {
    const page = assets.page.bytes.toString()
    const named = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path = '']) => path)
    assert.ok(named.length > 25)
    for (const path of named) assert.ok(assets.files.has(path), path)
    assert.doesNotMatch(page, /<script(?![^>]*\ssrc=)|<style|\son[a-z]+=|\sstyle=/)
    assert.match(assets.missing.bytes.toString(), /There is no such page/)
  })

  it('are compressed to the same bytes', async () => {
    const asset = [...assets.files].find(([path]) => path.endsWith('/vendor/uplot.js'))?.[1]
    assert.ok(asset)
    const packed = await asset.encoded('br')
    assert.ok(packed.length < asset.bytes.length / 3, `${packed.length} of ${asset.bytes.length}`)
    assert.deepEqual(brotliDecompressSync(packed), asset.bytes)
    assert.deepEqual(gunzipSync(await asset.encoded('gzip')), asset.bytes)
    assert.equal(await asset.encoded('br'), packed)
  })

  it('can be kept ready in a folder, and are the same from there', () => {
    for (const [name, text] of webFiles()) {
      mkdirSync(dirname(join(directory, name)), { recursive: true })
      writeFileSync(join(directory, name), text)
    }
    const kept = loadWebAssets(directory)
    assert.deepEqual([...kept.files.keys()].sort(), [...assets.files.keys()].sort())
    assert.equal(kept.page.etag, assets.page.etag)
  })
})
