// `import { createCluster } from 'tiphys/testing'`: the source in a checkout, the packed code in an installed package.
import { existsSync } from 'node:fs';

const source = new URL('./src/sim/testing.ts', import.meta.url);
export const { createCluster } = await import(existsSync(source) ? source.href : './dist/sim/testing.js');
