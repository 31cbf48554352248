// So many at a time: over a sequence that is pulled only as fast as the work goes.

/**
 * Runs `work` on each item, at most `max` at once. At the first failure nothing further begins; it throws once all that
 * had begun has ended, so that nothing is left running.
 */
export async function forEachConcurrent<Item>(
  items: Iterable<Item> | AsyncIterable<Item>,
  max: number,
  work: (item: Item) => Promise<void>
): Promise<void> {
  const running = new Set<Promise<void>>()
  let fault: { error: unknown } | undefined
  const start = (item: Item) => {
    const task: Promise<void> = work(item)
      .catch((error: unknown) => {
        fault ??= { error }
      })
      .finally(() => running.delete(task))
    running.add(task)
  }
  try {
    for await (const item of items) {
      if (fault !== undefined) break
      start(item)
      if (running.size >= max) await Promise.race(running)
      if (fault !== undefined) break
    }
  } catch (error) {
    fault ??= { error }
  }
  await Promise.all(running)
  if (fault !== undefined) throw fault.error
}
