/**
 * A Debian root by debootstrap (minbase), slimmed as the published slim images are: no documentation, no translations,
 * no caches, and apt told to keep none. Package sources are those of this machine that belong to the same release.
 */
import { mkdirSync, readdirSync, rmSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BootstrapContext } from './tool.ts';
import { runTool } from './tool.ts';

const suite = 'bookworm';

interface Source {
  uri: string;
  release: string;
  component: string;
}

async function hostSources(context: BootstrapContext): Promise<Source[]> {
  try {
    const text = await runTool(context, 'apt-get', [
      'indextargets',
      '--format',
      '$(REPO_URI) $(RELEASE) $(COMPONENT)',
      'Created-By: Packages',
    ]);
    const seen = new Set(text.split('\n').filter((line) => line !== ''));
    return [...seen]
      .map((line) => {
        const [uri, release, component] = line.split(' ');
        return { uri: uri!, release: release!, component: component! };
      })
      .filter(
        (source) =>
          source.component === 'main' && [suite, `${suite}-updates`, `${suite}-security`].includes(source.release),
      );
  } catch {
    return [];
  }
}

/** What goes: a few licences stay, because redistribution asks for them. */
function slim(root: string): void {
  for (const directory of [
    'usr/share/man',
    'usr/share/info',
    'usr/share/lintian',
    'usr/share/linda',
    'usr/share/groff',
    'var/cache/apt/archives',
    'var/lib/apt/lists',
    'debootstrap',
  ]) {
    rmSync(join(root, directory), { recursive: true, force: true });
  }
  for (const name of readdirSync(join(root, 'usr/share/doc'))) {
    for (const file of readdirSync(join(root, 'usr/share/doc', name)))
      if (file !== 'copyright') rmSync(join(root, 'usr/share/doc', name, file), { recursive: true, force: true });
  }
  for (const name of readdirSync(join(root, 'usr/share/locale')))
    if (name !== 'locale.alias') rmSync(join(root, 'usr/share/locale', name), { recursive: true, force: true });
  for (const path of [
    'var/cache/apt/pkgcache.bin',
    'var/cache/apt/srcpkgcache.bin',
    'var/cache/ldconfig/aux-cache',
    'var/log/bootstrap.log',
    'var/log/alternatives.log',
    'var/log/dpkg.log',
    'etc/machine-id',
    'etc/hostname',
    'etc/resolv.conf',
  ]) {
    rmSync(join(root, path), { force: true });
  }
  mkdirSync(join(root, 'var/cache/apt/archives/partial'), { recursive: true });
  mkdirSync(join(root, 'var/lib/apt/lists/partial'), { recursive: true });
}

const configuration: Record<string, string> = {
  'etc/dpkg/dpkg.cfg.d/docker':
    '# The image is rebuilt, not repaired: what a crash would lose is lost anyway.\nforce-unsafe-io\n',
  'etc/dpkg/dpkg.cfg.d/excludes': [
    'path-exclude=/usr/share/doc/*',
    'path-include=/usr/share/doc/*/copyright',
    'path-exclude=/usr/share/man/*',
    'path-exclude=/usr/share/info/*',
    'path-exclude=/usr/share/locale/*',
    'path-include=/usr/share/locale/locale.alias',
    'path-exclude=/usr/share/lintian/*',
    '',
  ].join('\n'),
  'etc/apt/apt.conf.d/docker-clean':
    'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };\nAPT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };\nDir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n',
  'etc/apt/apt.conf.d/docker-no-languages': 'Acquire::Languages "none";\n',
  'etc/apt/apt.conf.d/docker-gzip-indexes': 'Acquire::GzipIndexes "true";\n',
  'etc/apt/apt.conf.d/docker-autoremove-suggests': 'Apt::AutoRemove::SuggestsImportant "false";\n',
  'usr/sbin/policy-rc.d': '#!/bin/sh\n# No services are started inside an image.\nexit 101\n',
};

export async function makeDebianRoot(context: BootstrapContext, root: string): Promise<{ source: string }> {
  const sources = await hostSources(context);
  const mirror = sources.find((source) => source.release === suite)?.uri;
  context.onProgress?.(`installing Debian ${suite} (minbase)`);
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
  await runTool(context, 'debootstrap', [
    '--variant=minbase',
    `--keyring=${keyring}`,
    suite,
    root,
    ...(mirror === undefined ? [] : [mirror]),
  ]);
  slim(root);
  for (const [name, text] of Object.entries(configuration))
    writeFileSync(join(root, name), text, { mode: name.startsWith('usr/sbin') ? 0o755 : 0o644 });
  if (sources.length > 0) {
    unlinkSync(join(root, 'etc/apt/sources.list'));
    const blocks = sources.map(
      (source) =>
        `Types: deb\nURIs: ${source.uri.replace(/\/$/, '')}\nSuites: ${source.release}\nComponents: main\nSigned-By: ${keyring}\n`,
    );
    mkdirSync(join(root, 'etc/apt/sources.list.d'), { recursive: true });
    writeFileSync(join(root, 'etc/apt/sources.list.d/debian.sources'), blocks.join('\n'));
  }
  for (const name of ['var/log/apt/history.log', 'var/log/apt/term.log']) {
    try {
      truncateSync(join(root, name));
    } catch {
      /* Not made by this version. */
    }
  }
  return { source: `Debian ${suite} packages (debootstrap, minbase)` };
}
