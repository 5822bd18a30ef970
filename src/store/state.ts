/** All that a store holds at one revision, on its way from one backend to another. */
import type { StoredValue } from './store.ts';

export interface StoreState {
  values: readonly StoredValue[];
  revision: number;
  /** Milliseconds that are left of each lease. */
  leases: ReadonlyMap<number, number>;
}
