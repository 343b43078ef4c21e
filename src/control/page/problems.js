// What is wrong, and how bad that is.

const LEVELS = ['bad', 'warn', 'note', 'good'];
const worst = (levels) => LEVELS.find((level) => levels.includes(level)) ?? 'good';
const gate = (game, group) => `${game.name}/${group.name}`;

/** Of a group so many backends are listed one by one. */
const LISTED = 6;

/** Who is still there. */
function left({ players: playing, tunnels: open, in_flight: under_way }) {
  const all = [
    playing && plural(playing, 'player'),
    open && plural(open, 'WebSocket'),
    under_way > open && plural(under_way - open, 'request'),
  ].filter(Boolean);
  return `; ${all.length ? some(all) : 'nobody'} left`;
}

/** How a backend is: in a word, how bad that is, why, and since when. */
function condition(backend) {
  const { probe, ejection, state } = backend;
  const last = probe?.last;
  const found = last && !last.good ? [last.status ?? last.cause, last.detail].filter(Boolean).join(': ') : '';
  if (state !== 'ready') {
    const by = backend.state_set_by === 'operator' ? 'set by the operator' : 'as its file says';
    const rest = probe?.up === false ? `${by}; its probes find it down` : by;
    return { word: state, level: 'note', why: `${rest}${left(backend)}`, since: backend.state_since, serves: false };
  }
  if (probe?.up === false) {
    return { word: 'down', level: 'bad', why: `probes: ${found || 'no good one yet'}`, since: probe.since, serves: false };
  }
  if (probe?.waits) {
    return { word: 'waiting', level: 'note', why: `for its first probes${found && `; the last one: ${found}`}`, since: probe.since, serves: false };
  }
  if (ejection) {
    const met = backend.last_failure?.cause ?? '';
    const why = `${ejection.why === 'unreachable' ? 'cannot be connected to' : 'its requests fail'}${met && `: ${met}`}`;
    const level = ejection.why === 'unreachable' ? 'bad' : 'warn';
    if (ejection.left > 0) return { word: 'ejected', level, why, since: ejection.since, serves: false };
    return { word: 'on trial', level: 'warn', why: `${why}; the next request decides`, since: ejection.since, serves: true };
  }
  if (backend.weight === 0) return { word: 'weight 0', level: 'note', why: 'as its file says', serves: false };
  if (probe?.up) return { word: 'up', level: 'good', why: '', since: probe.since, serves: true };
  return { word: probe ? 'unproven' : 'not probed', level: 'good', why: probe ? 'serves until its first verdict' : '', serves: true };
}

/** How a group is as a whole. */
function groupCondition(group) {
  const serve = group.backends.filter((one) => one.condition.serves);
  const all = group.backends.length;
  if (serve.length === 0) {
    const ejected = group.backends.some((one) => one.condition.word === 'ejected');
    return { word: 'nobody serves', level: 'bad', serves: 0, all, why: ejected ? 'until an ejection ends' : '' };
  }
  const level = worst(group.backends.map((one) => one.condition.level));
  if (serve.every((one) => one.backup) && group.backends.some((one) => !one.backup)) {
    return { word: 'only backups serve', level: 'bad', serves: serve.length, all, why: '' };
  }
  return { word: `${serve.length} of ${all} serve`, level, serves: serve.length, all, why: '' };
}

/** Notes on each backend and each group how it is. */
function judge(status) {
  for (const game of status.games) {
    for (const group of game.groups) {
      for (const backend of group.backends) backend.condition = condition(backend);
      group.condition = groupCondition(group);
    }
    game.level = worst(game.groups.map((group) => group.condition.level));
  }
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

function* ofGroup(game, group) {
  const name = gate(game, group);
  if (group.condition.serves === 0 || group.condition.word === 'only backups serve') {
    const { word, why } = group.condition;
    const level = group.backends.every((one) => one.condition.level === 'note') ? 'warn' : 'bad';
    yield { key: `group ${name}`, level, tag: word === 'nobody serves' ? 'nobody' : 'backups', what: name, game, group, why: [word, why].filter(Boolean).join(' ') };
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
  const nobody = groups.filter(({ group }) => group.condition.serves === 0);
  if (nobody.length) {
    const meant = nobody.every(({ group }) => group.backends.every((one) => one.condition.level === 'note'));
    tell(meant ? 'warn' : 'bad', `Nobody serves ${some(nobody.map(({ name }) => name))}.`);
  }
  for (const word of ['down', 'ejected', 'on trial']) {
    const of = groups.filter(({ group }) => group.backends.some((one) => one.condition.word === word));
    if (of.length === 0) continue;
    const these = backends.filter((one) => one.condition.word === word);
    const subject = these.length === 1 ? `${of[0].name}/${these[0].name} is` : `${count(these.length)} of ${plural(backends.length, 'backend')} are`;
    const where = these.length === 1 ? '' : `, in ${some(of.map(({ name }) => name))}`;
    tell(worst(these.map((one) => one.condition.level)), `${subject} ${word}${where}.`);
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
