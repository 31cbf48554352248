// Large objects sent in parts: each with retries of its own, nothing visible before the last, nothing left after a failure.

import { systemClock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Wait } from '../disk.ts'
import type { S3Requests } from './s3-client.ts'
import { factsOf } from './s3-errors.ts'

const abortMsMax = 30_000

export interface PartsToPut {
  readonly Bucket: string
  readonly Key: string
  readonly name: string
  readonly body: Uint8Array
  readonly partBytes: number
  readonly wait: Wait
  /** Unfinished uploads below the prefix that are older are removed. */
  readonly sweep?: { readonly prefix: string; readonly ageMsMax: number } | undefined
}

interface Part {
  readonly PartNumber: number
  readonly ETag: string | undefined
}

interface Upload {
  readonly Bucket: string
  readonly Key: string
  readonly UploadId: string
}

export async function putInParts(requests: S3Requests, options: PartsToPut): Promise<void> {
  const { Bucket, Key, name, wait } = options
  const UploadId = await requests.run({ name, wait }, async ({ library, client, signal }) => {
    const command = new library.CreateMultipartUploadCommand({ Bucket, Key })
    return (await client.send(command, { abortSignal: signal })).UploadId
  })
  const upload = { Bucket, Key, UploadId: UploadId ?? '' }
  try {
    const parts = await putParts(requests, upload, options)
    await abortStale(requests, upload, options)
    await complete(requests, upload, parts, options)
  } catch (error) {
    await abortUpload(requests, upload, name)
    throw error
  }
}

async function complete(
  requests: S3Requests,
  upload: Upload,
  parts: Part[],
  { name, body, wait }: PartsToPut
) {
  await requests.run({ name, wait }, async ({ library, client, signal, attempt }) => {
    const { Bucket, Key } = upload
    const command = new library.CompleteMultipartUploadCommand({
      ...upload,
      MultipartUpload: { Parts: parts }
    })
    try {
      await client.send(command, { abortSignal: signal })
    } catch (thrown) {
      if (attempt === 1 || factsOf(thrown).name !== 'NoSuchUpload') throw thrown
      // An earlier attempt whose answer was lost may have completed it.
      const { ContentLength } = await client.send(new library.HeadObjectCommand({ Bucket, Key }), {
        abortSignal: signal
      })
      if (ContentLength !== body.length) throw thrown
    }
  })
}

async function putParts(
  requests: S3Requests,
  upload: Upload,
  { name, body, partBytes, wait }: PartsToPut
): Promise<Part[]> {
  const numbers = Array.from({ length: Math.ceil(body.length / partBytes) }, (_, index) => index + 1)
  const stop = new AbortController()
  const signal = AbortSignal.any([wait.signal, stop.signal])
  const sending = numbers.map(async (PartNumber) => {
    const Body = body.subarray((PartNumber - 1) * partBytes, PartNumber * partBytes)
    return await requests.run(
      { name, wait: { signal }, bytes: Body.length },
      async ({ library, client, signal }) => {
        const command = new library.UploadPartCommand({ ...upload, PartNumber, Body })
        return { PartNumber, ETag: (await client.send(command, { abortSignal: signal })).ETag }
      }
    )
  })
  try {
    return await Promise.all(sending)
  } catch (error) {
    stop.abort(error)
    await Promise.allSettled(sending)
    throw error
  }
}

/** With a time of its own: the caller's may be what has run out. */
async function abortUpload(requests: S3Requests, upload: Upload, name: string): Promise<void> {
  using deadline = startDeadline({ clock: systemClock, ms: abortMsMax, what: 'aborting an upload' })
  const aborting = requests.run(
    { name, wait: { signal: deadline.signal } },
    async ({ library, client, signal }) => {
      await client.send(new library.AbortMultipartUploadCommand(upload), { abortSignal: signal })
    }
  )
  // What failed first is what the caller must hear. Leftovers are for later sweeps.
  await aborting.catch(() => undefined)
}

/** Uploads of writers that died cost money and are seen by nobody. Their age is by the service's clock, as our own shows it. */
async function abortStale(
  requests: S3Requests,
  own: Upload,
  { name, wait, sweep }: PartsToPut
): Promise<void> {
  if (sweep === undefined) return
  const { Uploads = [] } = await requests.run({ name, wait }, async ({ library, client, signal }) => {
    const command = new library.ListMultipartUploadsCommand({ Bucket: own.Bucket, Prefix: sweep.prefix })
    return await client.send(command, { abortSignal: signal })
  })
  const now = Uploads.find(({ UploadId }) => UploadId === own.UploadId)?.Initiated?.getTime()
  if (now === undefined) return
  for (const { Key, UploadId, Initiated } of Uploads) {
    if (UploadId === undefined || UploadId === own.UploadId || Key === undefined || Initiated === undefined)
      continue
    if (now - Initiated.getTime() > sweep.ageMsMax)
      await abortUpload(requests, { Bucket: own.Bucket, Key, UploadId }, name)
  }
}
