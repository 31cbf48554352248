// What a process uses, under the names that Prometheus' own libraries have for it.

import { readdirSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { familyText, type MetricFamily } from './exposition.ts'

interface ProcessMetric extends MetricFamily {
  read(): number | undefined
}

export const processMetrics: readonly ProcessMetric[] = [
  {
    name: 'process_cpu_seconds_total',
    type: 'counter',
    labels: [],
    help: 'CPU time of this process, user and system.',
    read: () => {
      const { user, system } = process.cpuUsage()
      return (user + system) / 1e6
    }
  },
  {
    name: 'process_resident_memory_bytes',
    type: 'gauge',
    labels: [],
    help: 'Memory of this process that is in RAM.',
    read: () => process.memoryUsage.rss()
  },
  {
    name: 'process_start_time_seconds',
    type: 'gauge',
    labels: [],
    help: 'When this process started, seconds since the epoch.',
    read: () => performance.timeOrigin / 1_000
  },
  {
    name: 'process_open_fds',
    type: 'gauge',
    labels: [],
    help: 'File descriptors that this process holds.',
    read: openFiles
  },
  {
    name: 'nodejs_heap_used_bytes',
    type: 'gauge',
    labels: [],
    help: 'Memory in use by JavaScript objects.',
    read: () => process.memoryUsage().heapUsed
  },
  {
    name: 'nodejs_eventloop_active_seconds_total',
    type: 'counter',
    labels: [],
    help: 'Time for which the event loop was busy; growing by nearly a second each second, this process is the bottleneck.',
    read: () => performance.eventLoopUtilization().active / 1_000
  }
]

export function processText(): string {
  return processMetrics
    .map((metric) => {
      const value = metric.read()
      return value === undefined ? '' : familyText(metric, [[{}, value]])
    })
    .join('')
}

function openFiles(): number | undefined {
  try {
    return readdirSync('/proc/self/fd').length
  } catch {
    // Without /proc nobody counts them.
    return undefined
  }
}
