// image.prefetch: brings an image to the host before a VM needs it.

import { Type } from '../../lib/schema.ts'
import { Bytes, strict } from '../../protocol/names.ts'
import { ImageReference } from '../../protocol/vm.ts'
import type { Host } from '../host/host.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'

export const imagePrefetch = defineVerb<Host>()({
  name: 'image.prefetch',
  summary: 'Fetches an image, checks its digest and stores it, so that a provision need not wait for it.',
  lock: 'image',
  changes: false,
  deadlineMs: 1_800_000,
  afterCrash: 'resume',
  cancellable: true,
  params: Type.Object({ image: ImageReference }, strict),
  result: Type.Object(
    {
      volume: Type.String({ maxLength: 128 }),
      sizeBytes: Bytes,
      /** What a guest sees: a root disk cannot be smaller. */
      virtualSizeBytes: Bytes,
      /** True when it was there already. */
      cached: Type.Boolean()
    },
    strict
  ),
  lockKey: ({ image }) => image.sha256,
  steps: ({ image }, host) => [
    {
      name: 'fetch the image',
      apply: async (operation) => ({ stored: await host.images.ensure(image, operation) })
    }
  ],
  async outcome({ image }, host, operation) {
    const { cached } = (operation.notes.stored ?? {}) as { cached?: boolean }
    const stored = await host.images.ensure(image, operation)
    return { ...stored, cached: cached === true }
  }
})

export const document: VerbDocument = {
  errors: {
    E_BAD_REQUEST: 'the image is not of its format, has a backing file or another data file, or is encrypted',
    E_NOT_FOUND: 'the image does not exist at its address',
    E_AUTH: 'the image file is outside of the directories that the host allows, or its server wants a login',
    E_UNAVAILABLE: 'the image cannot be fetched now, or libvirt is away',
    E_CAPACITY: 'no room for the image',
    E_CORRUPT: 'the image has another SHA-256 than the command says'
  },
  crash:
    'Half an image is never taken for a whole one: it is removed or fetched anew by the next command for it.',
  example: {
    image: {
      url: 'https://images.example.org/debian-12.qcow2',
      sha256: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
      format: 'qcow2'
    }
  }
}
