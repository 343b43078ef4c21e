'use strict';
// How Chromium is started: the system's, without a window. The names of the
// tests live on loopback; the authority is in the NSS database of $HOME.

const { mkdirSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const { chromium } = require('playwright-core');

const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--no-proxy-server',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-dev-shm-usage',
  '--disable-sync',
  '--host-resolver-rules=MAP *.test 127.0.0.1',
];

const options = { executablePath: '/usr/bin/chromium', args: FLAGS };

const launch = () => chromium.launch(options);

/** The context of a profile, as people have one, with these preferences. */
function launchProfile(preferences) {
  const folder = join(process.env.HOME, 'profile');
  mkdirSync(join(folder, 'Default'), { recursive: true });
  writeFileSync(join(folder, 'Default', 'Preferences'), JSON.stringify(preferences));
  return chromium.launchPersistentContext(folder, options);
}

module.exports = { launch, launchProfile };
