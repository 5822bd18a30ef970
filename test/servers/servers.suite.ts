/**
 * What a cluster of three servers must still hold, on machines made of namespaces, and what comes of another program's
 * taking over: what takes too long for `npm test`.
 * `npm run test:servers`; with a title, `./tiphys test test/servers/servers.suite.ts` runs them all too.
 */
import './keys.ts';
import './majority.ts';
import './faults.ts';
import './addresses.ts';
import './upgrade.ts';
import './upgrade-here.ts';
