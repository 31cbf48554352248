// The dashboard over HTTP: a closed table of files and pages, and the headers that say what a browser may do with any answer.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Encoding, encodings, type WebAsset, type WebAssets } from './web-assets.ts'

/** Paths of the application's pages; the application itself tells them apart. */
export const webPages = [
  '/',
  '/hosts',
  '/hosts/:id',
  '/vms',
  '/vms/:name',
  '/vms/:name/console',
  '/operations',
  '/operations/:id',
  '/backups',
  '/conditions',
  '/audit'
] as const

/** Nothing but our own files, no scripts or styles in the page itself, and no text becomes markup. */
export const pagePolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'"
].join('; ')

/** For what is no page: it can load nothing and be shown nowhere. */
const answerPolicy = "default-src 'none'; frame-ancestors 'none'"

const always = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin'
} as const

/** Files have the hash of all in their path: what lies under it never changes. */
const fileCaching = 'public, max-age=31536000, immutable'
/** Pages are asked for anew each time: they name the files. */
const pageCaching = 'no-cache'
const answerCaching = 'no-store'

/** To be called before there are routes. `load` is called once, when somebody asks for the first file or page. */
export function serveWeb(server: FastifyInstance, load: () => WebAssets): void {
  server.addHook('onSend', async (_request, reply) => {
    for (const [name, value] of Object.entries(always)) reply.header(name, value)
    if (!reply.hasHeader('content-security-policy')) reply.header('content-security-policy', answerPolicy)
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', answerCaching)
  })
  const method = ['GET', 'HEAD']
  for (const url of webPages)
    server.route({ method, url, handler: (request, reply) => sendPage(request, reply, load().page) })
  server.route({
    method,
    url: '/assets/*',
    handler: (request, reply) => {
      const asset = load().files.get(pathOf(request))
      if (asset === undefined) return reply.callNotFound()
      return send(request, reply.header('cache-control', fileCaching), asset)
    }
  })
}

/** A page for people who asked for what there is not. False where a program asks, which gets an error as any other. */
export function sendMissingPage(
  request: FastifyRequest,
  reply: FastifyReply,
  load: () => WebAssets
): boolean {
  const wantsPage = request.method === 'GET' && request.headers.accept?.includes('text/html') === true
  if (!wantsPage || /^\/(v1|assets)\//.test(request.url)) return false
  void sendPage(request, reply.status(404), load().missing)
  return true
}

function sendPage(request: FastifyRequest, reply: FastifyReply, page: WebAsset): Promise<FastifyReply> {
  reply.headers({ 'content-security-policy': pagePolicy, 'cache-control': pageCaching })
  return send(request, reply, page)
}

async function send(request: FastifyRequest, reply: FastifyReply, asset: WebAsset): Promise<FastifyReply> {
  const encoding = encodingFor(request.headers['accept-encoding'])
  // One tag for each form of it: a cache must not take one for the other.
  const etag = `"${asset.etag}${encoding === undefined ? '' : `-${encoding}`}"`
  reply.headers({ etag, vary: 'accept-encoding', 'content-type': asset.type })
  if (reply.statusCode === 200 && isKnown(request.headers['if-none-match'], etag))
    return reply.status(304).send()
  if (encoding === undefined) return reply.send(asset.bytes)
  return reply.header('content-encoding', encoding).send(await asset.encoded(encoding))
}

function encodingFor(accepted: string | string[] | undefined): Encoding | undefined {
  const offered = String(accepted ?? '')
    .split(',')
    .map((word) => word.trim().toLowerCase())
    .filter((word) => !/;\s*q=0(\.0*)?$/.test(word))
    .map((word) => word.split(';')[0])
  return encodings.find((encoding) => offered.includes(encoding))
}

function isKnown(known: string | undefined, etag: string): boolean {
  return known?.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag) === true
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?')[0] ?? '/'
}
