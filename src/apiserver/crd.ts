/** Custom resources: definitions become kinds. */
import type { Server } from './context.ts';

export async function runCustomResources(_server: Server): Promise<() => void> { return () => undefined; }
