/**
 * The units by which systemd starts the engine where it started dockerd: the names are docker's own, so that what comes
 * after `docker.service` comes after this. KillMode=process: containers and their monitors are not the unit's to end.
 * systemd.service(5), systemd.socket(5).
 */
import { join } from 'node:path';
import { packageRoot } from '../paths.ts';

const quoted = (word: string): string =>
  /[\s"'\\$%;]/.test(word) ? `"${word.replaceAll('%', '%%').replaceAll('$', '$$$$').replace(/["\\]/g, '\\$&')}"` : word;

/** What both services have: how systemd starts the engine, and starts it again. */
function serviceOf(words: readonly string[]): string {
  const command = [join(packageRoot, 'tiphys'), 'engine', ...words].map(quoted).join(' ');
  return `Type=notify
ExecStart=${command}
ExecReload=/bin/kill -s HUP $MAINPID
TimeoutStartSec=0
RestartSec=2
Restart=always`;
}

/** Of an ordinary user: systemd cannot listen for it, since its socket lies in its namespaces. */
export function userUnits(words: readonly string[]): string {
  return `# ~/.config/systemd/user/docker.service
[Unit]
Description=Tiphys engine of this user, for Docker's clients
StartLimitBurst=3
StartLimitIntervalSec=60

[Service]
${serviceOf(words)}
KillMode=process

[Install]
WantedBy=default.target`;
}

/** Both files, each after a line with its path. `words`: further options of the engine. */
export function engineUnits(words: readonly string[]): string {
  return `# /etc/systemd/system/docker.service
[Unit]
Description=Tiphys engine, for Docker's clients
After=network-online.target nss-lookup.target docker.socket firewalld.service time-set.target
Wants=network-online.target
Requires=docker.socket
StartLimitBurst=3
StartLimitIntervalSec=60

[Service]
${serviceOf(['-H', 'fd://', ...words])}
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
Delegate=yes
KillMode=process
OOMScoreAdjust=-500

[Install]
WantedBy=multi-user.target

# /etc/systemd/system/docker.socket
[Unit]
Description=Docker socket for the API

[Socket]
ListenStream=/run/docker.sock
SocketMode=0660
SocketUser=root
SocketGroup=docker

[Install]
WantedBy=sockets.target`;
}
