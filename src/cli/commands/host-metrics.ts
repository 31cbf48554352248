// hostlet host metrics HOST

import type { Define } from '../define.ts'
import { hostFigures, metricsHistory } from '../metrics-history.ts'

export const define: Define = (command, cli) => {
  metricsHistory(command, cli, { kind: 'hosts', answer: 'HostMetrics', columns: hostFigures })
}
