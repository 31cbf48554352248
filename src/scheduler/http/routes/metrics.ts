// The metrics of the fleet for Prometheus.

import { expositionType } from '../../../lib/exposition.ts'
import { Type } from '../../../lib/schema.ts'
import { MetricsTextQuery } from '../../../protocol/api.ts'
import { defineRoute, StreamAnswer } from '../route.ts'

export const metricsRoutes = [
  defineRoute('GET /metrics', {
    tier: 'read',
    summary: 'Metrics of the fleet as text, in the Prometheus exposition format',
    query: MetricsTextQuery,
    reply: Type.String(),
    handle: async ({ query: { vms = true } }, { metrics }) =>
      new StreamAnswer(expositionType, await metrics.read({ vms }))
  })
]
