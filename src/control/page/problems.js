// What is wrong, and how bad that is.

const LEVELS = ['bad', 'warn', 'note', 'good'];
const worst = (levels) => LEVELS.find((level) => levels.includes(level)) ?? 'good';
const gate = (game, group) => `${game.name}/${group.name}`;

/** Of a group so many backends are listed one by one. */
const LISTED = 6;

/** How a game is as a whole; of backends and groups lockgate itself says it. */
function judge(status) {
  for (const game of status.games) game.level = worst(game.groups.map((group) => group.condition.level));
}

function* ofFiles(status) {
  for (const file of status.refused ?? []) {
    const what = file.game ?? file.file;
    const nothing = file.game && !file.last_good;
    yield {
      key: `file ${file.file}`,
      level: 'bad',
      tag: 'refused',
      what: file.game ? `${file.game}.toml` : what,
      why: nothing
        ? 'nothing of it serves'
        : file.game
          ? `its last good version, of ${clock(file.last_good, status.now / 1000)}, serves`
          : 'everything serves as before',
      since: file.since,
      more: [...file.problems, ...(file.errors > file.problems.length ? [`and ${file.errors - file.problems.length} more: lockgate check tells them`] : [])].join('\n'),
    };
  }
}

/** What of a group as a whole is a problem, and its tag. */
const GROUP_TAGS = { 'nobody serves': 'nobody', 'only backups serve': 'backups', 'requests fail': 'failing' };

function* ofGroup(game, group) {
  const name = gate(game, group);
  const tag = GROUP_TAGS[group.condition.word];
  if (tag) {
    const { word, level, why, since: from } = group.condition;
    yield { key: `group ${name}`, level, tag, what: name, game, group, why: [word, why].filter(Boolean).join(tag === 'failing' ? ': ' : ' '), since: from };
  }
  const kinds = new Map();
  for (const backend of group.backends) {
    const { word, level } = backend.condition;
    if (level === 'good') continue;
    kinds.set(word, [...(kinds.get(word) ?? []), backend]);
  }
  for (const [word, backends] of kinds) {
    for (const backend of backends.length > LISTED ? [] : backends) {
      yield { key: `backend ${name} ${word} ${backend.name}`, tag: word, what: `${name}/${backend.name}`, game, group, backend, ...backend.condition };
    }
    if (backends.length > LISTED) {
      const { level, why } = backends[0].condition;
      const first = Math.min(...backends.map((one) => one.condition.since ?? Infinity));
      yield {
        key: `backends ${name} ${word}`,
        level,
        tag: word,
        what: `${name}: ${count(backends.length)} of ${plural(group.backends.length, 'backend')}`,
        game,
        group,
        why: `the first: ${backends[0].name}: ${why}`,
        since: Number.isFinite(first) ? first : undefined,
      };
    }
  }
}

function* ofCertificates(status) {
  for (const one of status.certificates ?? []) {
    if (one.state === 'good') continue;
    const expired = one.state === 'expired';
    yield {
      key: `certificate ${one.game} ${one.listener}`,
      level: expired ? 'bad' : 'warn',
      tag: expired ? 'expired' : 'expires',
      what: one.listener,
      why: expired
        ? `certificate of ${one.domains.join(', ')}, expired on ${day(one.expires)}`
        : `certificate of ${one.domains.join(', ')}: ${plural(one.days_left, 'day')} left, until ${day(one.expires)}`,
    };
  }
}

const day = (seconds) => new Date(seconds * 1000).toLocaleDateString('en-CA');

/** Everything that needs somebody, the worst first. */
function problems(status) {
  const all = [...ofFiles(status), ...ofCertificates(status)];
  for (const game of status.games) for (const group of game.groups) all.push(...ofGroup(game, group));
  const rank = ({ level, tag }) => LEVELS.indexOf(level) * 2 - (tag === 'nobody' ? 1 : 0);
  return all.sort((one, other) => rank(one) - rank(other));
}

/** `a, b and 3 more`. */
function some(names, most = 3) {
  const rest = names.length - most;
  return rest > 0 ? `${names.slice(0, most).join(', ')} and ${rest} more` : names.join(', ');
}

/** The whole in a sentence or two. */
function verdict(status) {
  const groups = status.games.flatMap((game) => game.groups.map((group) => ({ group, name: gate(game, group) })));
  const backends = groups.flatMap(({ group }) => group.backends);
  const said = [];
  const levels = [];
  const tell = (level, text) => {
    levels.push(level);
    said.push(text);
  };
  const nobody = groups.filter(({ group }) => group.condition.word === 'nobody serves');
  if (nobody.length) tell(worst(nobody.map(({ group }) => group.condition.level)), `Nobody serves ${some(nobody.map(({ name }) => name))}.`);
  const failing = groups.filter(({ group }) => group.condition.word === 'requests fail');
  if (failing.length) tell('bad', `Most requests to ${some(failing.map(({ name }) => name))} fail.`);
  for (const word of ['down', 'no address', 'ejected', 'on trial', 'failing']) {
    // Of a group that fails as a whole enough was said.
    const others = word === 'failing' ? groups.filter((one) => !failing.includes(one)) : groups;
    const of = others.filter(({ group }) => group.backends.some((one) => one.condition.word === word));
    if (of.length === 0) continue;
    const these = of.flatMap(({ group }) => group.backends.filter((one) => one.condition.word === word));
    const subject = these.length === 1 ? `${of[0].name}/${these[0].name} is` : `${count(these.length)} of ${plural(backends.length, 'backend')} are`;
    const where = these.length === 1 ? '' : `, in ${some(of.map(({ name }) => name))}`;
    tell(worst(these.map((one) => one.condition.level)), `${subject} ${word === 'no address' ? 'without an address' : word}${where}.`);
  }
  const backups = groups.filter(({ group }) => group.condition.word === 'only backups serve');
  if (backups.length) tell('bad', `Only backups serve ${some(backups.map(({ name }) => name))}.`);
  const refused = status.refused ?? [];
  if (refused.length) {
    const files = some(refused.map((file) => (file.game ? `${file.game}.toml` : file.file)));
    tell('bad', `${files} ${refused.length === 1 ? 'is' : 'are'} refused.`);
  }
  const ends = (state) => (status.certificates ?? []).filter((one) => one.state === state).length;
  if (ends('expired')) tell('bad', `${plural(ends('expired'), 'certificate')} expired.`);
  if (ends('expires_soon')) tell('warn', `${plural(ends('expires_soon'), 'certificate')} ${ends('expires_soon') === 1 ? 'ends' : 'end'} within two weeks.`);
  if (status.handed_over) tell('note', 'A new process serves; this one finishes what it holds.');
  const aside = backends.filter((one) => one.condition.level === 'note').length;
  if (said.length === 0) {
    if (groups.length === 0) tell('note', 'No game has a group of backends.');
    else {
      const scope = `${plural(backends.length - aside, 'backend')} in ${plural(groups.length, 'group')} of ${plural(status.games.length, 'game')}`;
      tell('good', `All is well: ${scope} ${backends.length - aside === 1 ? 'serves' : 'serve'}.`);
    }
  }
  if (aside) {
    const words = { drain: 'in drain', maint: 'in maint', waiting: 'waiting for first probes', 'weight 0': 'with weight 0' };
    const counts = Object.entries(words).map(([word, text]) => [backends.filter((one) => one.condition.word === word).length, text]);
    said.push(`${counts.filter(([n]) => n).map(([n, text]) => `${count(n)} ${text}`).join(', ')}.`);
  }
  return { level: worst(levels), text: said.join(' ') };
}
