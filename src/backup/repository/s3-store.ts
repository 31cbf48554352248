// Objects at an S3 service, through Amazon's client.

import { HostletError } from '../../errors.ts'
import type { StoreContext, StoreSettings } from './open-store.ts'
import type { ObjectStore } from './store.ts'

export const S3Store = {
  async open(url: URL, _settings: StoreSettings, _context: StoreContext): Promise<ObjectStore> {
    throw new HostletError('E_UNSUPPORTED', `${url.host}: S3 comes next`)
  }
}
