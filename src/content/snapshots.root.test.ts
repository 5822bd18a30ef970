import { runSnapshotsSuite } from './snapshots.suite.ts';
import { createSnapshots } from './snapshots.ts';

runSnapshotsSuite('roots by overlayfs', { open: createSnapshots });
