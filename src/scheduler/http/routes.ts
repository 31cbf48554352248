// The one list of routes.

import type { Route } from './route.ts'
import { auditRoutes } from './routes/audit.ts'
import { backupRoutes } from './routes/backups.ts'
import { consoleRoutes } from './routes/consoles.ts'
import { diskKeyRoutes } from './routes/disk-keys.ts'
import { enrollmentRoutes } from './routes/enrollment.ts'
import { hostRoutes } from './routes/hosts.ts'
import { keyRoutes } from './routes/keys.ts'
import { metricsRoutes } from './routes/metrics.ts'
import { observationRoutes } from './routes/observations.ts'
import { operationRoutes } from './routes/operations.ts'
import { placementRoutes } from './routes/placements.ts'
import { restoreRoutes } from './routes/restores.ts'
import { rotationRoutes } from './routes/rotations.ts'
import { secondFactorRoutes } from './routes/second-factor.ts'
import { sessionRoutes } from './routes/session.ts'
import { statusRoutes } from './routes/status.ts'
import { tokenRoutes } from './routes/tokens.ts'
import { vmLifecycleRoutes } from './routes/vm-lifecycle.ts'
import { vmRoutes } from './routes/vms.ts'

export const routes: readonly Route[] = [
  ...statusRoutes,
  ...hostRoutes,
  ...vmRoutes,
  ...vmLifecycleRoutes,
  ...consoleRoutes,
  ...backupRoutes,
  ...restoreRoutes,
  ...diskKeyRoutes,
  ...operationRoutes,
  ...placementRoutes,
  ...observationRoutes,
  ...metricsRoutes,
  ...tokenRoutes,
  ...rotationRoutes,
  ...keyRoutes,
  ...sessionRoutes,
  ...secondFactorRoutes,
  ...auditRoutes,
  ...enrollmentRoutes
]
